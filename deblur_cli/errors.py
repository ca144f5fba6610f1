"""Every error that deblur raises on purpose, and how its text is shown. Imports nothing."""


class DeblurError(Exception):
    """An expected failure. Its text is one line for the user and says what to do next."""

    exit_code = 1


class UsageError(DeblurError):
    """An option or argument has a value that cannot be used."""

    exit_code = 2


class PhotoError(DeblurError):
    """A photo cannot be used."""


class DecodeError(PhotoError):
    """The file is not a picture, is damaged, or is of a kind that is not read."""


class PhotoTooLargeError(PhotoError):
    """The picture holds more megapixels than the limit allows."""


class EncodeError(PhotoError):
    """The result cannot be written."""


class RefusedError(EncodeError):
    """A store takes no results: it is full, or nobody may write there."""


class WeightsError(DeblurError):
    """Weights are damaged, cannot be downloaded, or do not fit the network."""


class UnknownWeightsError(WeightsError):
    """A name stands for no weights."""

    exit_code = 2


class DeviceError(DeblurError):
    """The device does not exist or cannot do what was asked of it."""

    exit_code = 2


class SelfCheckError(DeblurError):
    """The device computes something else than it should."""


class CanceledError(DeblurError):
    """The user no longer wants what was being done."""


class OutOfMemoryError(DeblurError):
    """Even the smallest tile does not fit into memory."""


class TrainingError(DeblurError):
    """Training cannot start or go on."""


class PlotError(DeblurError):
    """A plot cannot be drawn."""


class EvaluationError(DeblurError):
    """There is nothing to evaluate, or its results cannot be kept."""


class UnreadableError(EvaluationError):
    """One picture of a dataset cannot be read; the others can."""


def how_to_install(extra: str) -> str:
    """Return the command that adds an extra of the package, as the README installs it."""
    return f'pip install ".[{extra}]" in your clone of deblur'


def printable(text: str) -> str:
    """Return text on one line, without characters that would steer a terminal or turn text around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
