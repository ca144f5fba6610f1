"""What can go wrong between here and the Hub, each in one line that says what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from urllib.request import getproxies

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging

from deblur_cli.errors import WeightsError
from deblur_cli.weights.hub import HubFile

BRING = (
    "or download {file} elsewhere and give its path as --weights, or copy that machine's folder "
    "{repository} into {cache}"
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep huggingface_hub's own reports of retries, of several lines each, to its errors."""
    before = logging.get_verbosity()
    logging.set_verbosity(max(before, ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def small_pieces(size: int = 1 << 14) -> Iterator[None]:
    """Let huggingface_hub hand over downloads in pieces of that many bytes.

    Its own are of 10 MB, of which a broken connection loses all: a slow or shaky one would never get on.
    """
    before = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = min(before, size)
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = before


@contextmanager
def explained(file: HubFile, *, upload: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into a WeightsError."""
    try:
        yield
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError, LookupError, ImportError) as error:
        raise WeightsError(explain(error, file, upload=upload)) from error


def explain(error: BaseException, file: HubFile, *, upload: bool = False) -> str:
    """One line for a failed download or upload."""
    if isinstance(error, RuntimeError | LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # the library tells what it was doing, and hides what happened
    if isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
        return explain_answer(error, file, upload)
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
        return explain_connection(error, file, upload)
    return explain_system(error, upload)


def explain_answer(error: Exception, file: HubFile, upload: bool) -> str:  # noqa: PLR0911 - one for each
    """One line for what the Hub refuses."""
    match error:
        case GatedRepoError():
            return (
                f"{file.repository} is gated: accept its terms at {constants.ENDPOINT}/{file.repository}, "
                "then set HF_TOKEN to your token"
            )
        case RepositoryNotFoundError():
            return f"there is no {file.repository} on the Hub, or it is private: check it, or set HF_TOKEN"
        case RevisionNotFoundError():
            return f"{file.repository} has no revision {file.revision}: check what stands behind the @"
        case RemoteEntryNotFoundError():
            return f"{file.repository} holds no file {file.file} at revision {file.revision}"
        case HfHubHTTPError():
            return explain_status(error, file, upload)
    if upload:
        return "HF_HUB_OFFLINE forbids uploads: unset it"
    return f"not downloaded yet, and HF_HUB_OFFLINE forbids it: unset that, {how_to_bring(file)}"


def explain_connection(error: Exception, file: HubFile, upload: bool) -> str:
    """One line for a connection that cannot be made or breaks."""
    match error:
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return (
                f"{constants.ENDPOINT!r} or what it leads to is no address: unset HF_ENDPOINT, or let it "
                "begin with https://"
            )
        case httpx2.TooManyRedirects():
            return f"{constants.ENDPOINT} leads in a circle: check HF_ENDPOINT and proxy"
        case httpx2.ProxyError():
            return f"the proxy does not let {constants.ENDPOINT} through: check HTTPS_PROXY"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            proxy = " and the proxy that HTTPS_PROXY names" if getproxies().keys() - {"no"} else ""
            bring = "" if upload else f", {how_to_bring(file)}"
            return f"cannot reach {constants.ENDPOINT}: check the network{proxy}{bring}"
    return f"the connection broke ({type(error).__name__}): {what_next(upload)}"


def explain_system(error: BaseException, upload: bool) -> str:  # noqa: PLR0911 - one for each
    """One line for what fails on this side, and for answers that make no sense."""
    said = " ".join(str(error).split())
    match error:
        case OSError() if upload and error.errno is not None:
            return f"cannot read {error.filename or 'what is to be published'}: {error.strerror}"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of {constants.HF_HUB_CACHE} is full: make room, or set HF_HUB_CACHE to another "
                "disk; the download goes on from there"
            )
        case OSError() if error.errno is not None:
            where = error.filename or constants.HF_HUB_CACHE
            return f"cannot write to the cache: {where}: {error.strerror}"
        case OSError() if said.startswith("Consistency check"):
            return f"the file ended too early: {what_next(upload)}"
        case UnicodeEncodeError():
            return "the token holds characters that none has: check HF_TOKEN"
        case ImportError():
            return f"the proxy cannot be used, check HTTPS_PROXY: {said}"
    return (
        f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does ({said}): check it and the proxy"
    )


def what_next(upload: bool) -> str:
    """What helps against failures that may pass."""
    return "give the same command again" if upload else "the same command goes on from there"


def explain_status(error: HfHubHTTPError, file: HubFile, upload: bool) -> str:
    """One line for an answer that is an error."""
    status, wait = error.response.status_code, error.response.headers.get("Retry-After", "")
    match status:
        case 401 | 403:
            cure = "set HF_TOKEN to a token that may write there" if upload else "check HF_TOKEN"
            return f"access to {file.repository} is refused ({status}): {cure}"
        case 404 if not upload:
            return f"there is no {file.file} in {file.repository} at {constants.ENDPOINT} (404)"
        case 429:
            when = f"in {wait} seconds" if wait.isdigit() else "in some minutes"
            return f"{constants.ENDPOINT} got too many requests (429): try again {when}, or set HF_TOKEN"
        case _ if status >= 500:
            return f"{constants.ENDPOINT} is out of order ({status}): try again later"
    said = error.server_message or "check HF_ENDPOINT and proxy"
    return f"{constants.ENDPOINT} answered with status {status}: {' '.join(said.split())}"


def how_to_bring(file: HubFile) -> str:
    """How a file gets to a machine without network."""
    folder = f"models--{file.repository.replace('/', '--')}"
    return BRING.format(file=file.file, repository=folder, cache=constants.HF_HUB_CACHE)
