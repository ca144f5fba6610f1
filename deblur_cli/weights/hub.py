"""Files of the Hugging Face Hub: found in its cache, downloaded into it, removed from it.

huggingface_hub makes the requests and keeps the cache. What it does not do is done here: going on with a
download that another process began, and hashing while the bytes come in.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.errors import WeightsError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

logger = logging.getLogger(__name__)

SCHEME = "hf://"
Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if known
SHA256 = re.compile(r"[0-9a-f]{64}")  # what the Hub gives as ETag of large files
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@:\\\x00-\x1f]+?)(?:@([^@:\\\x00-\x1f]+))?")
NAME = re.compile(r"[\w+=-][\w.+=-]*")  # what a server may tell for use as a file name
PAGE = (b"<!doctype", b"<html")  # how a web page begins
WEB_PAGE = "a web page comes instead of the file: check HF_ENDPOINT, proxy and network login"
TOO_LONG = "more comes than the {size:,} bytes promised, which is not the file: check HF_ENDPOINT and proxy"
PARTIAL = ".deblur.incomplete"


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
    """Read hf://owner/repo/file[@revision]. Raises WeightsError."""
    match = ADDRESS.fullmatch(address)
    parts = f"{match[2]}/{match[3] or 'main'}".split("/") if match else []
    if not match or any(part in ("", ".", "..") for part in parts):
        raise WeightsError(f"{address} is no address of a file: write hf://owner/repo/file or ...@revision")
    return HubFile(match[1], match[2], match[3] or "main")


def cached(file: HubFile) -> Path | None:
    """Where a file lies in the cache, None if it does not. Makes no request."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(file.repository, file.file, revision=file.revision)
    except HFValidationError as error:
        raise WeightsError(f"{file} is no address of a file: {error}") from error
    return Path(found) if isinstance(found, str) else None


def stored_hash(path: Path) -> str | None:
    """SHA-256 that the Hub gave for a file of the cache; None where it gave none or links are not used."""
    name = path.resolve().name
    return name if SHA256.fullmatch(name) else None


def fetch(file: HubFile, sha256: str | None, size: int | None, progress: Progress | None = None) -> Path:
    """Download a file into the cache and return where it lies there.

    sha256, size: what it must have; None takes the Hub's word for them
    A broken download is gone on with, a wrong one is deleted. Raises WeightsError.
    """
    from deblur_cli.weights.hub_errors import explained, quiet, small_pieces

    with explained(file), quiet(), small_pieces():
        about = ask(file)
        check_metadata(file, about, sha256, size)
        blob = blob_path(file, about)
        transfer(file, about, blob, sha256 or pinned(about), progress)
        return link(file, blob)


def ask(file: HubFile) -> "HfFileMetadata":
    """Commit, ETag and size of a file, as the Hub tells them."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repository, file.file, revision=file.revision)
    return get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, headers=headers())


def headers() -> dict[str, str]:
    """User agent, and the user's token where there is one."""
    from huggingface_hub.utils._headers import build_hf_headers

    return build_hf_headers(library_name="deblur")


def pinned(about: "HfFileMetadata") -> str | None:
    """SHA-256 that the Hub promises; None for small files, whose ETag is another hash."""
    return about.etag if about.etag and SHA256.fullmatch(about.etag) else None


def check_metadata(file: HubFile, about: "HfFileMetadata", sha256: str | None, size: int | None) -> None:
    """Refuse, before anything is downloaded, what is no Hub's answer or another file than expected."""
    from huggingface_hub import constants

    if not all(name and NAME.fullmatch(name) for name in (about.commit_hash, about.etag)):
        raise WeightsError(
            f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does, perhaps with a web page: "
            "check HF_ENDPOINT, proxy and network login"
        )
    promised = pinned(about)
    if (sha256 and promised and promised != sha256) or (size and about.size and about.size != size):
        raise WeightsError(
            f"{file.repository} now holds another {file.file} (SHA-256 {promised or 'not told'}, "
            f"{about.size} bytes): nothing was downloaded; report it, or name it as {file} if you trust it"
        )


def blob_path(file: HubFile, about: "HfFileMetadata") -> Path:
    """Where the cache keeps the content of a file."""
    return repository_folder(file) / "blobs" / str(about.etag)


def repository_folder(file: HubFile) -> Path:
    """Folder of a repository in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=file.repository, repo_type="model")


def transfer(
    file: HubFile, about: "HfFileMetadata", blob: Path, sha256: str | None, progress: Progress | None
) -> None:
    """Bring the content into the cache, one process at a time; the blob appears whole and right, or not."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._fixes import WeakFileLock
    from huggingface_hub.utils.tqdm import silent_tqdm

    blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock_path(blob)):
        if blob.exists():  # another process was faster
            return
        partial = blob.with_name(blob.name + PARTIAL)
        check_space(blob.parent, partial, about.size)
        url = hf_hub_url(file.repository, file.file, revision=about.commit_hash)
        try:
            with partial.open("a+b") as stored:
                content = HashingFile(stored, about.size, progress)
                http_get(
                    url,
                    content,  # type: ignore[arg-type]  # as much of a file as http_get uses
                    resume_size=content.done,
                    headers=headers(),
                    expected_size=about.size,
                    tqdm_class=silent_tqdm,  # `progress` shows it
                )
        except BaseException:
            if partial.exists() and not partial.stat().st_size:  # nothing to go on from
                partial.unlink()
            raise
        check_content(file, partial, content.digest.hexdigest(), sha256)
        partial.replace(blob)


class HashingFile:
    """A file being downloaded: begins after what is there already, and hashes whatever is in it."""

    def __init__(self, file: BinaryIO, size: int | None, progress: Progress | None) -> None:
        self.file, self.size, self.progress = file, size, progress
        self.digest, self.done = hashlib.sha256(), 0
        file.seek(0, 2)
        if size is None or file.tell() > size:  # no part of that file
            file.truncate(0)
        file.seek(0)
        while piece := file.read(1 << 20):
            self._count(piece)

    def write(self, piece: bytes) -> int:
        """Take what came. Raises WeightsError, keeping nothing, for what cannot be the file."""
        page = not self.done and is_page(piece)
        if page or (self.size is not None and self.done + len(piece) > self.size):
            self.truncate()
            raise WeightsError(WEB_PAGE if page else TOO_LONG.format(size=self.size))
        self.file.write(piece)
        self._count(piece)
        return len(piece)

    def _count(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.done += len(piece)
        if self.progress:
            self.progress(self.done, self.size)

    def tell(self) -> int:
        return self.done

    def seek(self, position: int) -> int:
        return self.file.seek(position)

    def truncate(self) -> None:
        """Begin again, which is what a server asks for that does not know ranges."""
        self.file.truncate(0)
        self.digest, self.done = hashlib.sha256(), 0


def is_page(content: bytes) -> bool:
    """Whether a file that begins like that is a web page."""
    return content[:64].lstrip().lower().startswith(PAGE)


def check_space(folder: Path, partial: Path, size: int | None) -> None:
    """Refuse to begin what the disk cannot hold."""
    there = partial.stat().st_size if partial.exists() else 0
    free = shutil.disk_usage(folder).free
    if size is not None and size - there > free:
        raise WeightsError(
            f"the disk of {folder} has {free / 1e6:.1f} MB left, not the "
            f"{(size - there) / 1e6:.1f} MB wanted: make room, or set HF_HUB_CACHE to another disk"
        )


def check_content(file: HubFile, path: Path, found: str, sha256: str | None) -> None:
    """Delete what is not what was promised."""
    if sha256 is None or found == sha256:
        return
    path.unlink()
    raise WeightsError(
        f"the downloaded {file.file} is not the one promised and was deleted (SHA-256 {found}, should be "
        f"{sha256}): try again, and if it stays so, do not trust its source"
    )


def link(file: HubFile, blob: Path) -> Path:
    """Let huggingface_hub enter a blob that lies in its cache, and return its path there."""
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(file.repository, file.file, revision=file.revision, library_name="deblur"))
    if blob.exists() and not path.samefile(blob):
        raise WeightsError(f"{file.repository} was changed during the download: give the command again")
    return path


def remove(file: HubFile) -> list[Path]:
    """Delete a file from the cache, with its content unless something else shows it, and broken downloads.

    Returns what was deleted. Raises WeightsError.
    """
    path, deleted = cached(file), []
    folder = repository_folder(file)
    unwanted = [] if path is None else [path]
    if path is not None and path.is_symlink():
        blob = path.resolve()
        others = [other for other in (folder / "snapshots").rglob("*") if other != path and other.is_file()]
        if not any(other.resolve() == blob for other in others):
            unwanted.append(blob)
    unwanted += (folder / "blobs").glob(f"*{PARTIAL}")
    for target in unwanted:
        try:
            with unused(target):
                target.unlink()
        except OSError as error:
            raise WeightsError(f"cannot delete {target}: {error.strerror}") from error
        deleted.append(target)
    return deleted


@contextmanager
def unused(target: Path) -> Iterator[None]:
    """Hold the lock of a broken download. Raises WeightsError where another process is going on with it."""
    from filelock import Timeout
    from huggingface_hub.utils._fixes import WeakFileLock

    if not target.name.endswith(PARTIAL):
        yield
        return
    try:
        with WeakFileLock(lock_path(target.with_name(target.name.removesuffix(PARTIAL))), timeout=0.1):
            yield
    except Timeout as error:
        raise WeightsError(f"{target} is being downloaded just now: stop that first") from error


def lock_path(blob: Path) -> Path:
    """File that huggingface_hub locks while it writes that content."""
    locks = blob.parents[2] / ".locks" / blob.parents[1].name
    locks.mkdir(parents=True, exist_ok=True)
    return locks / f"{blob.name}.lock"
