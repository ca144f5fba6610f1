"""What can go wrong between here and the Hub, each in one line that says what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
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
def explained(file: HubFile) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into a WeightsError."""
    try:
        yield
    except (httpx2.HTTPError, OSError) as error:
        raise WeightsError(explain(error, file)) from error


def explain(error: Exception, file: HubFile) -> str:  # noqa: PLR0911 - one return for each kind of failure
    """One line for a failed download."""
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
            return explain_status(error, file)
        case OfflineModeIsEnabled():
            return f"not downloaded yet, and HF_HUB_OFFLINE forbids it: unset that, {how_to_bring(file)}"
        case httpx2.ProxyError():
            return f"the proxy does not let {constants.ENDPOINT} through: check HTTPS_PROXY"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return f"cannot reach {constants.ENDPOINT}: check the network, {how_to_bring(file)}"
        case httpx2.HTTPError():
            return f"the connection broke ({type(error).__name__}): the same command goes on from there"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of {constants.HF_HUB_CACHE} is full: make room, or set HF_HUB_CACHE to another "
                "disk; the download goes on from there"
            )
        case OSError() if error.errno is not None:
            where = error.filename or constants.HF_HUB_CACHE
            return f"cannot write to the cache: {where}: {error.strerror}"
    return "the file ended too early: the same command goes on from there"


def explain_status(error: HfHubHTTPError, file: HubFile) -> str:
    """One line for an answer that is an error."""
    status, wait = error.response.status_code, error.response.headers.get("Retry-After", "")
    match status:
        case 401 | 403:
            return f"access to {file.repository} is refused ({status}): check HF_TOKEN"
        case 404:
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
