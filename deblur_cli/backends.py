"""What reaches buckets and servers: packages behind fsspec, how they are set up, what their errors mean."""

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from deblur_cli.errors import UsageError, how_to_install

SILENCE = 60  # seconds until a server counts as gone
NO_BUCKET = errno.ENXIO
# Of a store, not of a file
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, NO_BUCKET)
_OWN = (
    errno.EROFS,
    errno.ENOTSUP,
    errno.EINTR,
    errno.ENOSPC,
    errno.EDQUOT,
)  # ours and those of this machine
_STATUS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT, 412: errno.EEXIST}
_STATUS |= {429: errno.EBUSY, 507: errno.ENOSPC}  # of HTTP
_KINDS: tuple[tuple[type[Exception], int], ...] = (
    (FileNotFoundError, errno.ENOENT),
    (FileExistsError, errno.EEXIST),
    (PermissionError, errno.EACCES),
    (TimeoutError, errno.ETIMEDOUT),
    (ConnectionRefusedError, errno.EHOSTUNREACH),
)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|(bucket|container) does not exist")
_PHRASES = (
    (re.compile(r"quota|storage.?full|insufficient.?storage|no space", re.IGNORECASE), errno.ENOSPC),
    (re.compile(r"Credential|Authentication"), errno.EACCES),
    (re.compile(r"certificate", re.IGNORECASE), errno.EPROTO),
    (re.compile(r"ConnectTimeout|ReadTimeout|timed out"), errno.ETIMEDOUT),
    (
        re.compile(r"(can|could) ?not connect|no route|unreachable|gaierror", re.IGNORECASE),
        errno.EHOSTUNREACH,
    ),
    (re.compile(r"SlowDown|ServerBusy|TooManyRequests"), errno.EBUSY),
)
_WORDS = {
    errno.EACCES: "access is refused; check the credentials in the environment",
    errno.ENOENT: "no such file or folder",
    errno.EEXIST: "already exists",
    errno.ENOSPC: "the store is full or its quota used up",
    errno.ETIMEDOUT: "the server does not answer",
    errno.EHOSTUNREACH: "the server cannot be reached",
    errno.EPROTO: "the certificate of the server is not trusted",
    errno.EBUSY: "the server asks to slow down",
    NO_BUCKET: "no such bucket",
}
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|CONNECTION_STRING")  # of environment variables
_SHORTEST_SECRET = 6  # characters, of a variable; shorter ones are "true" and the like
_LONGEST = 200  # characters of what a backend says


@dataclass(frozen=True)
class Backend:
    """What reaches stores of a kind.

    package: to be installed for it; extra: of deblur that brings it; has_folders: not only names with
    slashes, and files are renamed rather than put whole; is_web: it can be read only, and not listed
    """

    package: str
    extra: str | None = None
    has_folders: bool = False
    is_web: bool = False


_S3, _GS, AZURE = Backend("s3fs", "remote"), Backend("gcsfs"), Backend("adlfs")
_SFTP, _WEB = Backend("sshfs", has_folders=True), Backend("aiohttp", "remote", is_web=True)
BACKENDS: Mapping[str, Backend] = {
    **{"s3": _S3, "gs": _GS, "az": AZURE, "sftp": _SFTP, "http": _WEB, "https": _WEB},
    "memory": Backend("fsspec", "remote"),
}
ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "ssh": "sftp"}  # other names of schemes


def _web_options() -> dict[str, Any]:
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=30, sock_read=SILENCE)}}


_OPTIONS: Mapping[Backend, Callable[[], dict[str, Any]]] = {
    **dict.fromkeys((_S3, _GS, AZURE), partial(dict, use_listings_cache=False)),
    _SFTP: partial(dict, known_hosts=(), timeout=SILENCE),  # only those that ssh knows; sshfs would trust any
    _WEB: _web_options,
}


def reach(scheme: str, url: str) -> tuple[Any, str]:
    """Return the file system of fsspec behind the root of a store, and what its paths there begin with.

    fsspec keeps it for the next call. Raises UsageError where a package is missing, and whatever connecting
    does.
    """
    backend = BACKENDS[scheme]
    try:
        from fsspec.core import url_to_fs

        import_module(backend.package)  # as fsspec knows several for sftp
        system, start = url_to_fs(f"{url}/", **_OPTIONS.get(backend, dict)())
    except ImportError as error:
        how = how_to_install(backend.extra) if backend.extra else f"pip install {backend.package}"
        raise UsageError(f"{scheme}:// needs {backend.package}: {how}") from error
    return system, str(start).rstrip("/")


def told(error: Exception, url: str, query: str) -> tuple[int, str]:
    """Return the number of the system's error that is most like one of a backend, and what to say of it.

    url, query: of the address, none of whose secrets are told
    """
    if isinstance(error, OSError) and error.errno in _OWN:
        return error.errno, error.strerror or type(error).__name__
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    statuses = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    numbers = [_STATUS[status] for status in statuses if isinstance(status, int) and status in _STATUS]
    numbers += [number for kind, number in _KINDS if isinstance(error, kind)]
    numbers += [number for phrase, number in _PHRASES if phrase.search(text)]
    number = next(iter(numbers), getattr(error, "errno", None) or errno.EIO)
    if _NO_BUCKET.search(text):  # s3fs says the same of a file
        number = NO_BUCKET
    plain = (error.strerror if isinstance(error, OSError) else None) or str(error) or "no reason is given"
    return number, _WORDS.get(number) or _without_secrets(" ".join(plain.split()), url, query)


def _without_secrets(text: str, url: str, query: str) -> str:
    """Take addresses out of what a backend says, and whatever else is nobody's business."""
    text = re.sub(r"\S+://\S+", "...", text)
    password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    words = [password, unquote(password), *re.split("[?&=]", query)]
    named = (value for name, value in os.environ.items() if _SECRET_NAME.search(name.upper()))
    words += [value for value in named if len(value) >= _SHORTEST_SECRET]
    for word in sorted(filter(None, words), key=len, reverse=True):
        text = text.replace(word, "...")
    return text[:_LONGEST]
