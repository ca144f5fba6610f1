"""Addresses: what they say of themselves, and what a store makes of files put there."""

import errno
import pickle

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli import stores
from deblur_cli.backends import NO_BUCKET
from deblur_cli.errors import UsageError
from deblur_cli.stores import Address, parse

NAMES = st.text("ab .%#?+&[]*~üñ日", min_size=1, max_size=12).filter(lambda name: name.strip(". "))


@pytest.fixture(autouse=True)
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.mark.parametrize(
    "text",
    [r"C:\photos\a.jpg", "C:/a.jpg", "C://a.jpg", "a:b.jpg", "s3:/bucket/a.jpg", "://a", "/s3://b/a.jpg"],
)
def test_a_local_name_stays_local(text):
    assert not stores.is_address(text)
    assert str(parse(text)).replace("//", "/") == text.replace("//", "/")


def test_a_file_address_is_a_path():
    assert str(parse("file:///home/me/a%20b.jpg")) == "/home/me/a b.jpg"
    with pytest.raises(UsageError, match="another machine"):
        parse("file://nas/a.jpg")


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("s3://bucket/album/a b#1?.jpg", "s3://bucket/album/a b#1?.jpg", "a b#1?.jpg"),
        ("S3://bucket/album/", "s3://bucket/album", "album"),
        ("s3://bucket", "s3://bucket/", ""),
        ("sftp://me:pa:ss@host:22/x/a.jpg", "sftp://me@host:22/x/a.jpg", "a.jpg"),
        ("https://me:pass@host/x/a%20b.jpg?token=secret#top", "https://host/x/a%20b.jpg", "a b.jpg"),
        ("https://host/..%2F..%2Fa.jpg", "https://host/..%2F..%2Fa.jpg", "..%2F..%2Fa.jpg"),
        (
            "abfs://box@account.dfs.core.windows.net/a.jpg",
            "az://box@account.dfs.core.windows.net/a.jpg",
            "a.jpg",
        ),
    ],
)
def test_an_address_shows_no_credentials(text, shown, name):
    address = parse(text)
    assert (str(address), address.name) == (shown, name)
    assert not any(word in repr(address) for word in ("pass", "pa:ss", "secret"))


@pytest.mark.parametrize(
    "text",
    [
        *("s3://AKIAKEY:hush/hush@bucket/a.jpg", "s3://hush@bucket/a.jpg", "gs://hush:x/a.jpg"),
        *("sftp://me:hush/hush@host/a.jpg", "gopher://me:hush@host/", "s3://", "s3://bucket//hush.jpg"),
        *("s3://bucket/../hush.jpg", "https://", "s3://bucket?X-Amz-Signature=hush"),
        *(
            "s3://bucket/a.jpg?X-Amz-Signature=hush",
            "gs://b/a.jpg?x=1&Signature=hush",
            "s3://b/a?versionId=hush",
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_quoted(text):
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/a.jpg", "S3A://bucket/a.jpg"),
        ("gs://bucket/a.jpg", "gcs://bucket/a.jpg"),
        ("az://box/a.jpg", "abfss://box/a.jpg"),
        ("sftp://host/a.jpg", "ssh://host/a.jpg"),
        ("https://host/a.jpg", "https://HOST:443/a.jpg"),
        ("http://host/a.jpg", "http://host:80/a.jpg"),
    ],
)
def test_one_file_has_one_address(one, other):
    assert parse(one) == parse(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sftp://me@host/a.jpg", "ssh://you:pass@HOST:22/a.jpg"),
        ("az://box/a.jpg", "abfs://box@account.dfs.core.windows.net/a.jpg"),
    ],
)
def test_what_may_be_one_file_is_told(one, other):
    assert parse(one) != parse(other)
    assert parse(one).anyhow == parse(other).anyhow
    assert parse(one).anyhow != parse("sftp://host:2222/a.jpg").anyhow


def test_addresses_of_one_name_and_two_queries_differ():
    one, other = (parse(f"https://host/get?id={number}") for number in (1, 2))
    assert one != other
    assert str(one) == str(other)


@given(names=st.lists(NAMES, min_size=1, max_size=12, unique=True))
def test_names_come_back_as_they_were(names, tmp_path_factory):
    fsspec.filesystem("memory").store.clear()
    file = tmp_path_factory.mktemp("put") / "file"
    file.write_bytes(b"content")
    album = parse("memory://album/")
    for name in names:
        (album / name).put(file, overwrite=False)
    again = parse("memory://album/")
    assert sorted(one.name for one in again.iterdir()) == sorted(names)
    assert all(one.is_file() and one.read_bytes() == b"content" for one in again.iterdir())
    assert not again.list_below()
    assert {str(one.relative_to(again)) for one in again.files_below()} == set(names)


def test_nothing_is_replaced_unless_that_is_asked_for(tmp_path, memory):
    file = tmp_path / "file"
    file.write_bytes(b"new")
    memory.pipe("/album/a.jpg", b"old")
    target = parse("memory://album/a.jpg")
    before = target.stamp()
    with pytest.raises(FileExistsError):
        target.put(file, overwrite=False)
    assert target.read_bytes() == b"old"
    target.put(file, overwrite=True)
    assert target.read_bytes() == b"new"
    assert target.stamp() != before


def test_many_questions_take_one_listing(memory, monkeypatch):
    for number in range(20):
        memory.pipe(f"/album/{number}.jpg", b"1")
    asked = []
    monkeypatch.setattr(type(memory), "info", lambda self, path, **_: asked.append(path))
    album = parse("memory://album/")
    wanted = [album / f"{number}.jpg" for number in range(20)]
    wanted += [parse(f"memory://album/{number}.jpg") for number in range(20, 40)]
    stores.survey(wanted)
    assert [one.exists() for one in wanted] == [number < 20 for number in range(40)]
    assert not asked


@pytest.mark.parametrize("count", [3, 30])
def test_a_store_that_does_not_answer_is_not_asked_by_each_photo(count, memory, monkeypatch):
    asked = []

    def silent(self, path, **_):
        asked.append(path)
        raise ConnectionError("Cannot connect to host 127.0.0.1:1 ssl:default")

    monkeypatch.setattr(type(memory), "ls", silent)
    monkeypatch.setattr(type(memory), "info", silent)
    wanted = [parse("memory://album/") / f"{number}.jpg" for number in range(count)]
    stores.survey(wanted)
    for one in wanted:
        with pytest.raises(OSError, match="the server cannot be reached"):
            one.exists()
    assert len(asked) <= min(count, 8)


def test_a_photo_that_is_no_longer_wanted_is_not_fetched(memory, tmp_path):
    memory.pipe("/album/a.jpg", b"1" * 1000)
    with pytest.raises(InterruptedError):
        parse("memory://album/a.jpg").fetch(tmp_path / "a.jpg", lambda: True)


def test_an_address_goes_to_other_processes_without_what_was_learned(memory):
    memory.pipe("/album/a.jpg", b"1")
    album = parse("memory://album/")
    assert album.iterdir()
    copy = pickle.loads(pickle.dumps(album))
    assert isinstance(copy, Address)
    assert (copy, copy.is_folder, copy.store.folders) == (album, True, {})


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (PermissionError("Forbidden: s3://bucket/x?token=hush"), errno.EACCES),
        (FileNotFoundError("https://me:hush@host/"), errno.ENOENT),
        (TimeoutError("hush"), errno.ETIMEDOUT),
        (RuntimeError("QuotaExceeded for hush"), errno.ENOSPC),
        (OSError(errno.EBUSY, "SlowDown hush"), errno.EBUSY),
        (RuntimeError("Could not connect to the endpoint URL https://me:hush@host/"), errno.EHOSTUNREACH),
        (FileNotFoundError("The specified bucket does not exist"), NO_BUCKET),
        (RuntimeError("cannot talk to https://me:hush@host/x?sig=hush now, hush-hush"), errno.EIO),
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
    ],
)
def test_what_a_backend_says_is_told_without_secrets(error, number, monkeypatch):
    monkeypatch.setenv("SOME_SECRET_KEY", "hush-hush")
    address = parse("memory://album/a.jpg")
    with pytest.raises(OSError, match=r".") as caught, address._reached():
        raise error
    assert caught.value.errno == number
    assert "hush" not in f"{caught.value} {caught.value.strerror}"
    assert "Error" not in caught.value.strerror
    assert caught.value.__suppress_context__


def test_the_password_of_an_address_is_told_by_nobody():
    address = parse("https://me:p%40ss@host/a.jpg")
    for words in ("login as me with p@ss failed", "p%40ss"):
        with pytest.raises(OSError, match=r"\.\.\.") as caught, address.store.reached(address):
            raise RuntimeError(words)
        assert "ss" not in caught.value.strerror


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UsageError, match=r"gs:// needs gcsfs: pip install gcsfs"):
        parse("gs://bucket/a.jpg").exists()
