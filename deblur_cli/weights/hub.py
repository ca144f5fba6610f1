"""Files of the Hugging Face Hub: downloaded, found in its cache, deleted from it, uploaded.

huggingface_hub makes the requests and keeps the cache. Added here: the SHA-256 of what comes is checked, and
each failure becomes one line that says what to do.
"""

import errno
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

from deblur_cli.errors import UnknownWeightsError, WeightsError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

SCHEME = "hf://"
SHA256 = re.compile(r"[0-9a-f]{64}")  # what the Hub gives as ETag of large files
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@:\\\x00-\x1f]+?)(?:@([^@:\\\x00-\x1f]+))?")
NAME = re.compile(r"[\w+=-][\w.+=-]*")  # what a server may name a file of the cache
PAGE = (b"<!doctype", b"<html")  # how a web page begins


@dataclass(frozen=True)
class HubFile:
    """A file of a model repository.

    repository: owner/name; file: its path in there; revision: a commit, or a branch or tag, which may move
    """

    repository: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}/{self.file}@{self.revision}"


def parse(address: str) -> HubFile:
    """Read hf://owner/repo/file[@revision]. Raises UnknownWeightsError."""
    match = ADDRESS.fullmatch(address)
    parts = f"{match[2]}/{match[3] or 'main'}".split("/") if match else []
    if not match or any(part in ("", ".", "..") for part in parts):
        raise UnknownWeightsError(
            f"{address} is not a file address: write hf://owner/repo/file or ...@revision"
        )
    return HubFile(match[1], match[2], match[3] or "main")


def cached(file: HubFile) -> Path | None:
    """Where a file lies in the cache, None if it does not. Makes no request."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(file.repository, file.file, revision=file.revision)
    except HFValidationError as error:
        raise WeightsError(f"{file} is not a file address: {error}") from error
    return Path(found) if isinstance(found, str) else None


def stored_hash(path: Path) -> str | None:
    """SHA-256 that the Hub gave for a file of the cache, None for small files or a cache without links."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if SHA256.fullmatch(name) else None


def is_page(content: bytes) -> bool:
    """Whether a file that begins like that is a web page."""
    return content[:64].lstrip().lower().startswith(PAGE)


def download(file: HubFile, sha256: str | None, size: int | None) -> Path:
    """Download a file into the cache and return where it lies there.

    sha256, size: what it must have; None takes the Hub's word for them
    Raises WeightsError; a file with the wrong hash is deleted.
    """
    from huggingface_hub import hf_hub_download

    with explained(file):
        promised = promised_hash(file, sha256, size)
        path = Path(
            hf_hub_download(file.repository, file.file, revision=file.revision, library_name="deblur")
        )
        with path.open("rb") as content:
            begins, found = content.peek(64)[:64], hashlib.file_digest(content, "sha256").hexdigest()
    expected = sha256 or promised
    if expected in (None, found):
        return path
    delete(file)
    if is_page(begins):
        raise WeightsError("a web page came instead of the file: check HF_ENDPOINT, proxy and network login")
    raise WeightsError(
        f"the downloaded {file.file} is not the file that was promised, and was deleted (SHA-256 {found}, "
        f"should be {expected}): try again; if it happens again, do not trust its source"
    )


def promised_hash(file: HubFile, sha256: str | None, size: int | None) -> str | None:
    """The SHA-256 that the Hub promises for a file, None for small files, whose ETag is another hash.

    Raises WeightsError, before anything is downloaded, for a server that is not the Hub and for another file.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repository, file.file, revision=file.revision)
    about = get_hf_file_metadata(url, library_name="deblur")
    if not all(name and NAME.fullmatch(name) for name in (about.commit_hash, about.etag)):
        raise WeightsError(
            f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does, perhaps with a web page: "
            "check HF_ENDPOINT, proxy and network login"
        )
    promised = about.etag if about.etag and SHA256.fullmatch(about.etag) else None
    if (sha256 and promised and promised != sha256) or (size and about.size and about.size != size):
        raise WeightsError(
            f"{file.repository} now holds a different {file.file} (SHA-256 {promised or 'unknown'}, "
            f"{about.size} bytes); nothing was downloaded. If you trust it, use {file}"
        )
    return promised


def delete(file: HubFile) -> list[Path]:
    """Delete a file from the cache, and its content unless another file shares that. Raises WeightsError.

    Returns what was deleted.
    """
    path = cached(file)
    if path is None:
        return []
    unwanted, content = [path], path.resolve()
    if path.is_symlink():
        snapshots = path.parents[len(Path(file.file).parts)]
        if not any(other != path and other.resolve() == content for other in snapshots.rglob("*")):
            unwanted.append(content)
    for target in unwanted:
        try:
            target.unlink()
        except OSError as error:
            raise WeightsError(f"cannot delete {target}: {error.strerror}") from error
    return unwanted


def publish(repository: str, files: Sequence[Path], card: str, *, private: bool) -> str:
    """Upload files and their model card as one commit to a repository, made if there is none.

    card: Markdown, beginning with the front matter of the Hub. Returns the commit. Raises WeightsError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    with explained(HubFile(repository, files[0].name), upload=True), disable_progress_bars():
        api = HfApi(library_name="deblur")
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(file.name, file) for file in files]
        operations.append(CommitOperationAdd("README.md", card.encode()))
        commit = api.create_commit(repository, operations, commit_message=f"Add {files[0].name}")
    return commit.oid


@contextmanager
def explained(file: HubFile, *, upload: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into a WeightsError of one line.

    The library's own reports of retries, of several lines each, are kept to its errors.
    """
    import httpx2
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(max(before, ERROR))
    try:
        yield
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError, LookupError, ImportError) as error:
        raise WeightsError(explain(error, file, upload)) from error
    finally:
        logging.set_verbosity(before)


def explain(error: BaseException, file: HubFile, upload: bool) -> str:
    """One line for a failed download or upload."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError | LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # the library says what it was doing, and hides what happened
    if isinstance(error, OfflineModeIsEnabled):
        if upload:
            return "HF_HUB_OFFLINE forbids uploads: unset it"
        return f"not downloaded yet, and HF_HUB_OFFLINE forbids it: unset that, {by_hand(file)}"
    if isinstance(error, HfHubHTTPError):
        return explain_answer(error, file, upload)
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
        return explain_connection(error, file, upload)
    return explain_system(error, upload)


def explain_answer(error: "HfHubHTTPError", file: HubFile, upload: bool) -> str:
    """One line for what the Hub refuses."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    hub_page, owner = constants.ENDPOINT, file.repository
    status, wait = error.response.status_code, error.response.headers.get("Retry-After", "")
    said = " ".join((error.server_message or "check HF_ENDPOINT and proxy").split())
    when = f"in {wait} seconds" if wait.isdigit() else "in some minutes"
    cure = "set HF_TOKEN to a token that may write there" if upload else "check HF_TOKEN"
    match error:
        case hub.GatedRepoError():
            line = (
                f"{owner} is gated: accept its terms at {hub_page}/{owner}, then set HF_TOKEN to your token"
            )
        case hub.RepositoryNotFoundError():
            line = f"there is no {owner} on the Hub, or it is private: check the name, or set HF_TOKEN"
        case hub.RevisionNotFoundError():
            line = f"{owner} has no revision {file.revision}: check what follows the @"
        case hub.RemoteEntryNotFoundError():
            line = f"{owner} has no file {file.file} at revision {file.revision}"
        case _ if status in (401, 403):
            line = f"access to {owner} is refused ({status}): {cure}"
        case _ if status == 404 and not upload:
            line = f"there is no {file.file} in {owner} at {hub_page} (404)"
        case _ if status == 429:
            line = f"{hub_page} got too many requests (429): try again {when}, or set HF_TOKEN"
        case _ if status >= 500:
            line = f"{hub_page} has a problem ({status}): try again later"
        case _:
            line = f"{hub_page} answered with status {status}: {said}"
    return line


def explain_connection(error: Exception, file: HubFile, upload: bool) -> str:
    """One line for a connection that cannot be made or breaks."""
    import httpx2
    from huggingface_hub import constants

    match error:
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return (
                f"{constants.ENDPOINT!r}, or what it leads to, is not an address: unset HF_ENDPOINT, or "
                "begin it with https://"
            )
        case httpx2.TooManyRedirects():
            return f"{constants.ENDPOINT} redirects in a circle: check HF_ENDPOINT and proxy"
        case httpx2.ProxyError():
            return f"the proxy does not let {constants.ENDPOINT} through: check HTTPS_PROXY"
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            proxy = " and the proxy that HTTPS_PROXY names" if getproxies().keys() - {"no"} else ""
            way = "" if upload else f", {by_hand(file)}"
            return f"cannot reach {constants.ENDPOINT}: check the network{proxy}{way}"
    return f"the connection broke ({type(error).__name__}): give the same command again"


def explain_system(error: BaseException, upload: bool) -> str:  # noqa: PLR0911 - one for each
    """One line for what fails on this side, and for answers that make no sense."""
    from huggingface_hub import constants

    said, cache = " ".join(str(error).split()), constants.HF_HUB_CACHE
    match error:
        case OSError(errno=errno.ENOSPC | errno.EDQUOT) if not upload:
            return f"the disk of {cache} is full: make room, or set HF_HUB_CACHE to another disk"
        case OSError() if error.errno is not None and upload:
            return f"cannot read {error.filename or 'what is to be published'}: {error.strerror}"
        case OSError() if error.errno is not None:
            return f"cannot write to {error.filename or cache}: {error.strerror}"
        case OSError() if said.startswith("Consistency check"):
            return "the file ended too early or is too long: give the same command again"
        case UnicodeEncodeError():
            return "the token holds characters that no token has: check HF_TOKEN"
        case ImportError():
            return f"the proxy cannot be used, check HTTPS_PROXY: {said}"
    return (
        f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does ({said}): check it and the proxy"
    )


def by_hand(file: HubFile) -> str:
    """How a file gets to a machine without network."""
    return f"or download {file.file} elsewhere and give its path instead of the name"
