"""Photos in buckets and on servers, by address: `s3://bucket/album/dog.jpg`.

An `Address` answers what a run asks of a path: its name, what lies beside it, whether it exists. Answers
are kept from one listing of a folder, so that planning a run over many photos takes few requests; what
counts at the moment, `stamp`, `fetch` and `put`, always asks the store. A copy in another process begins
without answers. Every error is an OSError whose `strerror` is a few words without any credentials.
"""

import errno
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from deblur_cli.backends import ALIASES, AZURE, BACKENDS, REFUSALS, Backend, reach, told
from deblur_cli.errors import DeblurError, EncodeError, RefusedError, UsageError
from deblur_cli.files import PARTIAL

HEAD = 4096  # bytes at the start of a photo that tell its kind
_FEW = 8  # files of a folder that are asked for one by one; where there are more, it is listed
_AT_ONCE = 8  # threads that ask
_PIECE = 64  # heads that one of them asks for together
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)  # C:\ is a disk
# What signed addresses have behind their `?`, and what s3fs would take for a version
_SIGNED = re.compile(
    r"\?(.*&)?(X-(Amz|Goog)-|(AWSAccessKey|GoogleAccess|version)Id=|(Signature|sig)=)", re.IGNORECASE
)
# What tells versions of a file apart, the best first: hashes, then times
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")
T = TypeVar("T")
R = TypeVar("R")
Stamp = tuple[int, int | str]  # size in bytes, and a time in nanoseconds, or what else tells versions apart


@dataclass(frozen=True)
class Entry:
    """A file, or a folder, of a store."""

    is_folder: bool
    stamp: Stamp


@dataclass(frozen=True)
class Store:
    """A bucket, or a server.

    shown: its address as anybody may see it; url: the same with a password, if there is one
    folders, entries: what is known of it, errors too; whole: folders below which all is known
    kinds: what its files are, as others found out
    """

    scheme: str
    shown: str
    url: str = field(repr=False)
    folders: dict[PurePosixPath, dict[str, Entry]] = field(default_factory=dict, compare=False, repr=False)
    entries: dict[PurePosixPath, Entry | OSError | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    whole: set[PurePosixPath] = field(default_factory=set, compare=False, repr=False)
    kinds: dict["Address", str | None] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.scheme, self.shown, self.url)

    @property
    def backend(self) -> Backend:
        """What reaches it."""
        return BACKENDS[self.scheme]

    @property
    def place(self) -> str:
        """Its address without what only says how to get there, so that each way there gives the same.

        That may be the same for two stores, too: to one user a server may show other files than to another,
        and an account may be named in the environment.
        """
        host = self.shown.partition("://")[2]
        if self.backend is AZURE:
            host = host.partition("@")[0].lower()
        elif self.backend.has_folders:
            host = re.sub(r"\.?(:0*22)?$", "", host.rpartition("@")[2].lower())
        return f"{self.scheme}://{host}"

    @contextmanager
    def reached(self, address: "Address") -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system, and what its paths begin with; what it raises becomes a plain OSError.

        address: what this is about
        """
        try:
            yield reach(self.scheme, self.url)
        except DeblurError:
            raise
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own
            # without the cause, as tracebacks would show addresses with keys and tokens in them
            number, words = told(error, address.store.url, address.query)
            raise OSError(number, words, str(address)) from None


@dataclass(frozen=True)
class Address:
    """A file or folder of a store; as text it holds no credentials.

    path: below the store; query: what follows the path of a web address, often a token
    is_folder: it was given with a slash at its end
    """

    store: Store
    path: PurePosixPath
    query: str = field(default="", repr=False)
    is_folder: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.store.shown}/{self.path}" if self.path.parts else f"{self.store.shown}/"

    @property
    def anyhow(self) -> "Address":
        """One for all ways to name a file, only for comparing; others may have it, too: see `Store.place`."""
        return replace(self, store=Store(self.store.scheme, self.store.place, ""))

    def __truediv__(self, below: str | Path) -> "Address":
        return Address(self.store, self.path / PurePosixPath(*Path(below).parts))

    @property
    def name(self) -> str:
        """The last part, which of a web address is decoded if it can be the name of a file."""
        if not self.store.backend.is_web:
            return self.path.name
        plain = unquote(self.path.name)
        is_name = plain.isprintable() and "/" not in plain and plain not in (".", "..")
        return plain if is_name else self.path.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the folders and of the file."""
        return (self.store.shown, *self.path.parts)

    @property
    def parent(self) -> "Address":
        """The folder that it is in."""
        return Address(self.store, self.path.parent)

    def with_name(self, name: str) -> "Address":
        """Return a neighbor."""
        return self.parent / name

    def relative_to(self, folder: "Address") -> Path:
        """Return the path from a folder to here."""
        return Path(*self.path.relative_to(folder.path).parts)

    def entry(self) -> Entry | None:
        """Return what is here, as far as it is known, else as the store says; None for nothing.

        Raises OSError, and the same for whoever asks again, as finding out that nobody answers takes long.
        """
        store = self.store
        siblings = store.folders.get(self.path.parent) if self.path.parts else None
        if siblings is not None:
            return siblings.get(self.path.name)
        if not store.whole.isdisjoint(self.path.parents):
            return None
        if self.path not in store.entries:
            store.entries[self.path] = self._ask()
        found = store.entries[self.path]
        if isinstance(found, OSError):
            raise OSError(found.errno, found.strerror, str(self))
        return found

    def _ask(self) -> Entry | OSError | None:
        if self.store.backend.is_web:
            return Entry(self.is_folder, (0, ""))  # whether it is there is seen when it is fetched
        try:
            with self._reached() as (system, path):
                return _entry(system.info(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            return error

    def exists(self) -> bool:
        """Tell whether there is anything of this name."""
        return self.entry() is not None

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        return (found := self.entry()) is not None and not found.is_folder

    def is_dir(self) -> bool:
        """Tell whether it is a folder, of which there is none that is empty in a bucket."""
        if not self.is_folder or self.store.backend.is_web:
            return (found := self.entry()) is not None and found.is_folder
        try:
            return bool(self.iterdir()) or self.store.backend.has_folders
        except FileNotFoundError:
            return False

    def iterdir(self) -> list["Address"]:
        """List the folder, each file and folder in it. Raises OSError."""
        folders = self.store.folders
        if self.path not in folders:
            if self.store.backend.is_web:
                raise OSError(errno.ENOTSUP, "web servers list no folders; give the address of each photo")
            with self._reached() as (system, path):
                infos = sorted(system.ls(path, detail=True), key=lambda info: info["type"] != "directory")
                found = {_below(path, info["name"]): _entry(info) for info in infos}  # a file hides a folder
            folders[self.path] = {name: entry for name, entry in found.items() if name not in ("", ".", "..")}
        return [self / name for name in folders[self.path]]

    def list_below(self) -> list[str]:
        """List all that is below a folder at once, where that takes fewer requests; later answers know it.

        Returns the names that no folder could hold, which are left out. Raises OSError.
        """
        if self.store.backend.has_folders or self.store.backend.is_web:
            return []
        with self._reached() as (system, path):
            found = system.find(path, detail=True)
        files = {
            _below(path, name): info
            for name, info in found.items()
            if info["type"] != "directory" and not name.endswith("/")
        }
        strange = []
        folders: dict[PurePosixPath, dict[str, Entry]] = {self.path: {}}
        for name, info in files.items():
            parts = name.split("/")
            is_below_a_file = any("/".join(parts[:count]) in files for count in range(1, len(parts)))
            if is_below_a_file or not {"", ".", ".."}.isdisjoint(parts):
                strange.append(f"{self}/{name}")
                continue
            place = self.path.joinpath(*parts)
            folders.setdefault(place.parent, {})[place.name] = _entry(info)
            for folder in place.parents:
                if folder == self.path:
                    break
                folders.setdefault(folder.parent, {}).setdefault(folder.name, Entry(True, (0, "")))
        self.store.folders.update(folders)
        self.store.whole.add(self.path)
        return strange

    def files_below(self) -> Iterator["Address"]:
        """Yield the files of a folder and of those inside it."""
        for one in self.iterdir():
            if one.is_dir():
                yield from one.files_below()
            else:
                yield one

    def stamp(self) -> Stamp | None:
        """Ask for what tells this version of a file from others; None where there is none. Raises OSError."""
        try:
            with self._reached() as (system, path):
                return _entry(system.info(path)).stamp
        except FileNotFoundError:
            return None

    def read_bytes(self) -> bytes:
        """Return the content of a small file. Raises OSError."""
        with self._reached() as (system, path):
            return bytes(system.cat_file(path))

    def read_head(self) -> bytes | None:
        """Return the first bytes of a file, where ranges of it cannot be asked for; None where that fails."""
        try:
            with self._reached() as (system, path), system.open(path, block_size=0) as file:
                return bytes(file.read(HEAD))
        except OSError:
            return None

    def fetch(self, to: Path, is_unwanted: Callable[[], bool] = lambda: False) -> None:
        """Copy the file to a path of this machine. Raises OSError; InterruptedError once it is unwanted."""
        with self._reached() as (system, path):
            from fsspec import Callback

            class Watched(Callback):  # type: ignore[misc]  # has no types
                def call(self, *_: object, **__: object) -> None:
                    if is_unwanted():
                        raise InterruptedError(errno.EINTR, "is no longer wanted")

            system.get_file(path, str(to), callback=Watched())

    def put(self, file: Path, *, overwrite: bool) -> None:
        """Copy a file of this machine here, where it appears whole or not at all.

        Raises FileExistsError where something is here that may not be replaced, and OSError.
        """
        if self.store.backend.is_web:
            raise OSError(errno.EROFS, "web addresses can only be read")
        mode = "overwrite" if overwrite else "create"
        with self._reached() as (system, path):
            if self.store.scheme == "memory":  # in pieces, `put_file` would show it before it is whole
                system.pipe_file(path, file.read_bytes(), mode=mode)
            elif self.store.backend.has_folders:
                self._put_by_name(system, path, file, overwrite=overwrite)
            else:
                system.put_file(str(file), path, mode=mode)

    def _put_by_name(self, system: Any, path: str, file: Path, *, overwrite: bool) -> None:
        part = f"{path.rpartition('/')[0]}/{PARTIAL.replace('*', secrets.token_hex(8))}"
        try:
            system.put_file(str(file), part)
            if not overwrite and system.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            system.mv(part, path)
        except BaseException:
            with suppress(OSError):
                system.rm_file(part)
            raise

    def write_bytes(self, content: bytes) -> None:
        """Put a small file here, over an earlier one. Raises OSError."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="deblur-") as folder:
            file = Path(folder) / self.path.name
            file.write_bytes(content)
            self.put(file, overwrite=True)

    def forget(self) -> None:
        """Forget what is known of a folder and of all below it."""
        store = self.store
        store.whole.clear()
        for known in (store.folders, store.entries):
            for path in [path for path in known if path.is_relative_to(self.path)]:
                known.pop(path, None)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file. Raises OSError."""
        try:
            with self._reached() as (system, path):
                system.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system and the path there. Raises as `Store.reached` does."""
        with self.store.reached(self) as (system, start):
            path = f"{start}/{self.path}" if self.path.parts else start or "/"
            yield system, path + self.query


Location = Path | Address  # where a photo or a result is


def _below(folder: str, name: str) -> str:
    """The part of a name behind its folder; "" for the folder itself, which buckets may list."""
    return name.lstrip("/").removeprefix(folder.lstrip("/")).removeprefix("/").removesuffix("/")


def _entry(info: Mapping[str, Any]) -> Entry:
    mark: Any = next((info[name] for name in _MARKS if info.get(name)), "")
    if isinstance(mark, datetime):
        mark = mark.timestamp()  # as some tell the same time in two ways
    return Entry(info["type"] == "directory", (int(info.get("size") or 0), str(mark)))


def explain(address: Address, error: OSError) -> EncodeError:
    """One line for a file that could not be put."""
    if error.errno == errno.EEXIST:
        how = "allow replacing it with --overwrite or choose another name"
        return EncodeError(f"{address}: already exists; {how}")
    if error.errno == errno.ENOENT and not address.store.backend.has_folders:
        return RefusedError(f"{address}: cannot be written: no such bucket")
    refused = RefusedError if error.errno in REFUSALS else EncodeError
    return refused(f"{address}: cannot be written: {error.strerror}")


def is_address(text: str) -> bool:
    """Tell whether text names something elsewhere; `file://` is no such address, nor is a Windows disk."""
    found = _ADDRESS.match(text)
    return found is not None and found[1].lower() != "file"


def parse(text: str) -> Location:
    """Return the place that a path or address names. Raises UsageError, without the text of the address."""
    found = _ADDRESS.match(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    scheme = ALIASES.get(scheme, scheme)
    if scheme == "file":
        return _local(rest)
    if scheme not in BACKENDS:
        *names, last = sorted({*BACKENDS, *ALIASES} - {"memory"})
        raise UsageError(f"{scheme}:// is unknown; addresses begin with {', '.join(names)} or {last}")
    backend, query = BACKENDS[scheme], ""
    if backend.is_web:
        rest, mark, query = rest.partition("#")[0].partition("?")
        query = mark + query
    host, _, path = rest.partition("/")
    login, at, bare = host.rpartition("@")
    if backend.is_web:  # over SFTP, ~/.ssh/config may tell such hosts and ports apart
        bare = re.sub({"http": ":0*80$", "https": ":0*443$"}[scheme], "", bare.lower())
        host = f"{login}{at}{bare}"
    if not (backend.is_web or backend.has_folders):
        bare = host
        if ":" in host or (at and backend is not AZURE):
            raise UsageError(f"{scheme}:// takes a bucket, and no keys; put those into the environment")
        if _SIGNED.search(rest):
            raise UsageError(
                f"{scheme}:// takes nothing behind a ?; give a signed address as it is, with https://"
            )
    if not re.fullmatch(r"[^:]+(:[0-9]{1,5})?", bare):
        raise UsageError(f"{scheme}://: needs the name of a bucket or server behind it, and perhaps a port")
    is_folder = path.endswith("/") or not path
    parts = path.removesuffix("/").split("/") if path else []
    if not {"", ".", ".."}.isdisjoint(parts):
        raise UsageError(f"{scheme}://{bare}: no part of its path may be empty, . or ..")
    user = login.partition(":")[0]
    shown = f"{scheme}://{user}@{bare}" if user and backend.has_folders else f"{scheme}://{bare}"
    return Address(Store(scheme, shown, f"{scheme}://{host}"), PurePosixPath(*parts), query, is_folder)


def _local(rest: str) -> Path:
    from urllib.request import url2pathname

    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise UsageError(f"file://{host}: is on another machine; write file:/// and a path")
    return Path(url2pathname(f"/{path}"))


def survey(places: Iterable[Location]) -> None:
    """Find out which of many files exist in few requests; `exists` and its like know it then."""
    folders: dict[Address, list[Address]] = defaultdict(list)
    for place in places:
        if isinstance(place, Address) and not place.store.backend.is_web:
            folders[place.parent].append(place)
    single = []
    for folder, members in folders.items():
        if len(members) <= _FEW:
            single += members
            continue
        answer = None
        try:
            folder.iterdir()
        except FileNotFoundError:
            folder.store.folders[folder.path] = {}
        except OSError as error:
            answer = error
        for one in members:  # given one by one, they know nothing of each other
            if answer is not None:
                one.store.entries[one.path] = answer
            else:
                one.store.folders[folder.path] = folder.store.folders[folder.path]
    _at_once(_learn, single)


def _learn(address: Address) -> None:
    with suppress(OSError):  # who asks for it will hear of it
        address.entry()


def heads(addresses: Iterable[Address]) -> dict[Address, bytes]:
    """Return the first bytes of files, many at once, as far as they can be read."""
    stores: dict[Store, list[Address]] = defaultdict(list)
    for address in addresses:
        stores[address.store].append(address)
    pieces = [
        members[start : start + _PIECE]
        for members in stores.values()
        for start in range(0, len(members), _PIECE)
    ]
    return dict(pair for pairs in _at_once(_heads, pieces) for pair in pairs)


def read_all(addresses: Iterable[Address]) -> list[tuple[Address, bytes | OSError]]:
    """Return the contents of small files, and errors in the place of those that cannot be read."""

    def read(address: Address) -> tuple[Address, bytes | OSError]:
        try:
            return address, address.read_bytes()
        except OSError as error:
            return address, error

    return _at_once(read, list(addresses))


def _at_once(ask: Callable[[T], R], about: Sequence[T]) -> list[R]:
    from concurrent.futures import ThreadPoolExecutor

    if not about:
        return []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, about))


def _heads(addresses: list[Address]) -> list[tuple[Address, bytes]]:
    first = addresses[0]
    if first.store.backend.is_web or first.store.backend.has_folders:  # some send all, whatever is asked for
        return [(one, head) for one in addresses if (head := one.read_head()) is not None]
    found: list[object] = []
    with suppress(OSError), first.store.reached(first) as (system, start):
        found = system.cat_ranges([f"{start}/{one.path}" for one in addresses], 0, HEAD, on_error="return")
    return [
        (one, bytes(head)) for one, head in zip(addresses, found, strict=False) if isinstance(head, bytes)
    ]
