"""`deblur run` on photos that live elsewhere: in memory, on a server of the S3 protocol, and on the web."""

import asyncio
import http.server
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import fsspec
import pytest
from cli_helpers import (
    Deblurrer,
    deblur,
    errors_in,
    install,
    make_photo,
    names_in,
    process_environment,
    started,
    stop_at,
)
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from typer.testing import CliRunner

from deblur_cli.cli.app import app
from deblur_cli.cli.run.journal import NAME, home_of
from deblur_cli.files import PARTIAL
from deblur_cli.stores import parse

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "hush-hush-secret"}
ALBUM = ("a.jpg", "b.png", "calm.jpg", "day/c.jpg", "day/d e#1%20+ü.jpg")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """The stand-in network, and private files and journals where a test sees them."""
    install(monkeypatch)
    for name in ("private", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    assert names_in(tmp_path / "private") == set(), "private files are left"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.fixture
def album(tmp_path, memory):
    """Photos in a folder, and the same in memory; one is not what its name says, one is broken."""
    for seed, name in enumerate(ALBUM):
        make_photo(tmp_path / "album" / name, seed=seed)
    (tmp_path / "album" / "misnamed.jpg").write_bytes((tmp_path / "album" / "b.png").read_bytes())
    (tmp_path / "album" / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    upload(tmp_path / "album", "memory://album")
    return tmp_path / "album"


def upload(folder, address):
    for name in names_in(folder):
        (parse(address) / name).put(folder / name, overwrite=True)


def content_of(address):
    """The files below an address, by their names."""
    folder = parse(address)
    folder.list_below()
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.files_below()}


def local_content_of(folder):
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def test_results_are_those_of_folders(album, tmp_path):
    words = ("-r", "--mask", "--mask-format", "both", "--trajectory", "--data", "npz")
    here = deblur("run", album, "-o", tmp_path / "sharp", *words)
    there = deblur("run", "memory://album/", "-o", "memory://sharp/", *words)
    assert (here.exit_code, there.exit_code) == (1, 1)  # one is broken
    assert content_of("memory://sharp") == local_content_of(tmp_path / "sharp")
    told = there.stderr.replace("memory://", f"{tmp_path}/")
    assert [line.partition(", ")[0] for line in told.splitlines()] == [
        line.partition(", ")[0] for line in here.stderr.splitlines()
    ]
    assert there.stdout.replace("memory://", f"{tmp_path}/") == here.stdout


def test_photos_and_results_may_be_in_different_places(album, tmp_path):
    assert deblur("memory://album/a.jpg", "-o", tmp_path / "out").exit_code == 0  # `run` may be left out
    assert deblur("run", album / "a.jpg", "memory://album/b.png", "-o", "memory://out/").exit_code == 0
    assert deblur("run", "memory://album/calm.jpg", "-o", "memory://out/renamed.png").exit_code == 0
    assert content_of("memory://out").keys() == {"a_deblurred.jpg", "b_deblurred.png", "renamed.png"}
    assert (tmp_path / "out" / "a_deblurred.jpg").read_bytes() == content_of("memory://out")[
        "a_deblurred.jpg"
    ]
    assert deblur("run", "memory://album/b.png", f"file://{album}/a.jpg").exit_code == 0  # beside each
    assert "b_deblurred.png" in content_of("memory://album")
    assert (album / "a_deblurred.jpg").is_file()


def test_programs_and_the_report_are_told_addresses(album):
    words = ("memory://album/", "-o", "memory://sharp/", "--report")
    result = deblur("run", *words, "--json", "--include", "a.jpg")
    photo, page, summary = map(json.loads, result.stdout.splitlines())
    assert photo["input"] == "memory://album/a.jpg"
    assert photo["output"] == "memory://sharp/a_deblurred.jpg"
    assert page["path"] == "memory://sharp/deblur_report/index.html"
    assert summary["not_included"] == 4
    assert deblur("run", *words, "--include", "calm.jpg", "--include", "broken.jpg").exit_code == 1
    pages = content_of("memory://sharp/deblur_report")
    text = pages["index.html"].decode()
    assert all(f"memory://album/{name}" in text for name in ("a.jpg", "calm.jpg", "broken.jpg"))
    assert sum(name.endswith("after.jpg") for name in pages) == 1  # the calm one was not changed


def test_sidecars_and_masks_are_found_beside_photos(album, memory, tmp_path):
    (tmp_path / "gray").mkdir()
    Image.new("L", (48, 32), 255).save(tmp_path / "gray" / "a.png")
    upload(tmp_path / "gray", "memory://masks")
    memory.pipe("/album/a.xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    words = ("run", "memory://album/a.jpg", "--sidecars", "--overwrite", "-o", "memory://out/", "--json")
    for mask in ("memory://masks/", "memory://masks/a.png", tmp_path / "gray"):
        result = deblur(*words, "--mask-file", mask)
        told = json.loads(result.stdout.splitlines()[0])
        assert (result.exit_code, Path(told["mask_file"]).name) == (0, "a.png")
    assert told["sidecar"] == "memory://out/a_deblurred.xmp"
    assert b"xmpmeta" in content_of("memory://out")["a_deblurred.xmp"]
    in_color = deblur(*words, "--mask-file", "memory://album/b.png")
    assert errors_in(in_color)[0].startswith("error: memory://album/a.jpg: memory://album/b.png is in color")
    none = deblur(*words, "--mask-file", "memory://album/day/")
    assert "there is no mask for it in memory://album/day; name it like the photo, a.png" in none.stderr


def test_what_exists_is_refused_skipped_or_replaced(album, memory):
    words = ("run", "memory://album/a.jpg", "-o", "memory://out/")
    memory.pipe("/out/a_deblurred.jpg", b"mine")
    assert "already exists; use --overwrite" in deblur(*words).stderr
    assert "already exists" in deblur(*words, "--skip-existing").stderr
    assert content_of("memory://out") == {"a_deblurred.jpg": b"mine"}
    assert deblur(*words, "--overwrite").exit_code == 0
    assert content_of("memory://out")["a_deblurred.jpg"].startswith(b"\xff\xd8")


def test_a_result_that_appears_meanwhile_is_not_replaced(album, memory, monkeypatch):
    restore = Deblurrer.restore

    def slow(self, photo, *rest):
        memory.pipe("/out/a_deblurred.jpg", b"mine")
        return restore(self, photo, *rest)

    monkeypatch.setattr(Deblurrer, "restore", slow)
    result = deblur("run", "memory://album/a.jpg", "-o", "memory://out/", "--mask")
    assert errors_in(result)[0].startswith(
        "error: memory://album/a.jpg: memory://out/a_deblurred.jpg: already"
    )
    assert content_of("memory://out") == {"a_deblurred.jpg": b"mine"}


@pytest.mark.parametrize("gone", [False, True])
def test_a_photo_that_changes_meanwhile_is_refused(gone, album, memory, monkeypatch):
    restore = Deblurrer.restore

    def slow(self, photo, *rest):
        if photo.source.name == "a.jpg":
            memory.rm_file("/album/a.jpg") if gone else memory.pipe("/album/a.jpg", b"another one")
        return restore(self, photo, *rest)

    monkeypatch.setattr(Deblurrer, "restore", slow)
    result = deblur("run", "memory://album/a.jpg", "memory://album/b.png", "-o", "memory://out/")
    assert (result.exit_code, len(errors_in(result))) == (1, 1)
    assert "memory://album/a.jpg: was changed while the run worked on it" in result.stderr
    assert content_of("memory://out").keys() == {"b_deblurred.png"}


def test_an_unfinished_run_is_resumed(album, tmp_path):
    words = ("memory://album/", "-r", "-o", "memory://sharp/")
    stop_at("b_deblurred.png", *words)
    journal = home_of(parse("memory://sharp/")) / NAME
    assert journal.is_relative_to(tmp_path / "state")
    assert journal.is_file()
    result = deblur("run", *words, "--resume")
    assert "memory://album/a.jpg: finished before" in result.stderr
    assert "a.jpg" not in Deblurrer.looked_at
    deblur("run", album, "-r", "-o", tmp_path / "sharp")
    assert content_of("memory://sharp") == local_content_of(tmp_path / "sharp")
    assert not any((tmp_path / "state" / "deblur").iterdir())


def test_a_dry_run_says_the_same_and_writes_nothing(album, memory):
    result = deblur("run", "memory://album/", "-r", "-o", "memory://sharp/", "--dry-run")
    assert (
        "memory://album/a.jpg (48 x 32, <0.1 megapixels) -> memory://sharp/a_deblurred.jpg" in result.stdout
    )
    assert "error: memory://album/broken.jpg: is a broken JPEG" in result.stderr
    assert not any(name.startswith("/sharp") for name in memory.store)


def test_results_in_the_album_are_not_taken_for_photos(album):
    words = ("run", "memory://album/", "-r", "-o", "memory://album/sharp/")
    first = deblur(*words)
    assert "a_deblurred.jpg" in first.stdout
    again = deblur(*words, "--skip-existing", "--suffix", "")
    assert "among" not in again.stderr
    assert not any("sharp/sharp" in name for name in content_of("memory://album"))


def test_a_store_that_refuses_ends_the_run(album, monkeypatch):
    pipe = MemoryFileSystem.pipe_file
    put = []

    def refusing(self, path, value, **how):
        put.append(path)
        if len(put) > 2:
            raise PermissionError("403 Forbidden, signed with hush-hush-secret")
        return pipe(self, path, value, **how)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refusing)
    result = deblur("run", "memory://album/", "-r", "-o", "memory://sharp/", "--mask", "-j", "1")
    assert result.exit_code == 1
    done = content_of("memory://sharp").keys()  # of the photo that was restored first
    assert done in ({"a_mask.png", "a_deblurred.jpg"}, {"b_mask.png", "b_deblurred.png"})
    assert "cannot be written: access is refused; check the credentials" in errors_in(result)[0]
    assert (
        "memory://sharp/ takes no results, so the run ends here; finished results are kept" in result.stderr
    )
    assert "hush" not in result.output


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError("Forbidden"),
            "listing it is refused; a key must allow listing, reading, and writing",
        ),
        (
            OSError("Could not connect to the endpoint"),
            "no results can go there: the server cannot be reached",
        ),
    ],
)
@pytest.mark.parametrize("out", ["memory://sharp/", "memory://sharp/day", "memory://sharp/day/"])
def test_a_store_that_tells_nothing_is_named_once(out, error, line, album, monkeypatch):
    def refusing(self, path, **how):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "info", refusing)
    monkeypatch.setattr(MemoryFileSystem, "ls", refusing)
    result = deblur("run", album, "-o", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert line in result.stderr
    assert not Deblurrer.looked_at


def test_a_bucket_that_is_missing_ends_the_run(album, monkeypatch):
    def missing(self, path, value, **how):
        raise FileNotFoundError(path)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", missing)
    result = deblur("run", "memory://album/", "-o", "memory://sharp/", "-j", "1")
    assert "cannot be written: no such bucket" in errors_in(result)[0]
    assert "memory://sharp/ takes no results, so the run ends here" in result.stderr


def test_a_failing_network_costs_one_photo(album, monkeypatch):
    get = MemoryFileSystem.get_file

    def failing(self, path, *rest, **how):
        if path.endswith("b.png"):
            raise ConnectionError("reset by peer at https://me:hush@host/?token=hush")
        return get(self, path, *rest, **how)

    monkeypatch.setattr(MemoryFileSystem, "get_file", failing)
    result = deblur("run", "memory://album/a.jpg", "memory://album/b.png", "-o", "memory://out/", "--debug")
    assert errors_in(result) == ["error: memory://album/b.png: cannot be fetched: reset by peer at ..."]
    assert content_of("memory://out").keys() == {"a_deblurred.jpg"}
    assert "hush" not in result.output


def test_a_photo_comes_from_an_address_and_goes_to_stdout(album, tmp_path):
    deblur("run", album / "a.jpg", "-o", tmp_path / "a.jpg")
    picture = (tmp_path / "a.jpg").read_bytes()
    assert deblur("run", "memory://album/a.jpg", "-o", "-").stdout_bytes == picture
    photo = (album / "a.jpg").read_bytes()
    CliRunner().invoke(app, ["run", "-", "-o", "memory://out/from stdin.jpg"], input=photo)
    assert content_of("memory://out") == {"from stdin.jpg": picture}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("s3://AKIA:hush/hush@bucket/a.jpg",),
            "s3:// takes a bucket, and no keys; put those into the environment",
        ),
        (("gopher://host/a.jpg",), "gopher:// is unknown; addresses begin with abfs,"),
        (("memory://album/", "-o", "https://host/out/"), "https://host/out can only be read"),
        (("memory://nowhere/",), "memory://nowhere/: no such file or folder"),
        (("memory://album/nothing.jpg",), "memory://album/nothing.jpg: no such file or folder"),
        (("sftp://me:hush@host/a.jpg",), "sftp:// needs sshfs: pip install sshfs"),
        (("https://host/album/?token=hush",), "web servers list no folders; give the address of each photo"),
        (
            ("https://host/a.jpg?token=hush",),
            "https://host/a_deblurred.jpg cannot be written, as web addresses",
        ),
        (
            ("memory://album/", "--findings", "s3://b/x.npz"),
            "s3://b/x.npz: only `deblur run` takes addresses",
        ),
        (("s3://b/a.jpg?X-Amz-Signature=hush",), "give a signed address as it is, with https://"),
        (("--mask=s3://me:hush@bucket/a.jpg",), "--mask takes no file; did you mean --mask-file ADDRESS?"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words, line, album, monkeypatch):
    monkeypatch.setitem(sys.modules, "sshfs", None)
    result = deblur("run", *words)
    assert result.exit_code != 0
    assert line in result.stderr
    assert "hush" not in result.output


def test_warnings_name_the_address_once(album, monkeypatch):
    detect = Deblurrer.detect

    def warning(self, photo, *rest):
        logging.getLogger("deblur_cli.photo").warning("%s: is odd", photo.source)
        logging.getLogger("deblur_cli.photo").warning("nothing is even")
        return detect(self, photo, *rest)

    monkeypatch.setattr(Deblurrer, "detect", warning)
    result = deblur("run", "memory://album/a.jpg", "-o", "memory://sharp/")
    assert result.stderr.splitlines()[:2] == [
        "warning: memory://album/a.jpg: is odd",
        "warning: memory://album/a.jpg: nothing is even",
    ]


def test_a_journal_that_cannot_be_kept_is_named(album, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(album / "a.jpg"))
    result = deblur("run", "memory://album/", "-o", "memory://sharp/")
    assert (result.exit_code, "name another folder with XDG_STATE_HOME" in result.stderr) == (2, True)


def test_kinds_are_asked_for_together(album, monkeypatch):
    asked = []
    ranges = MemoryFileSystem.cat_ranges

    def counting(self, paths, *rest, **how):
        asked.append(len(paths))
        return ranges(self, paths, *rest, **how)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", counting)
    result = deblur("run", "memory://album/", "-r", "-o", "memory://sharp/", "--raw-exposure", "1")
    assert "no effect, as no photo is camera RAW" in result.stderr
    assert asked == [len(ALBUM) + 2]


def test_other_commands_take_no_addresses(album):
    result = deblur("epsilon", "s3://bucket/a.jpg")
    assert "only `deblur run` takes addresses" in result.output


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    make_photo(folder / "a b.jpg")
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_photos_are_read_from_the_web_and_tokens_are_told_to_nobody(web, tmp_path):
    folder, host = web
    wanted = deblur("run", folder / "a b.jpg", "-o", tmp_path / "here")
    address = f"{host}/a%20b.jpg?X-Signature=hush-hush"
    words = ("-o", tmp_path / "out", "--debug", "--verbose", "--report", "--mask")
    result = deblur("run", address, f"{host}/missing.jpg?X-Signature=hush-hush", *words)
    assert (wanted.exit_code, result.exit_code) == (0, 1)
    written = local_content_of(tmp_path / "out")
    assert written["a b_deblurred.jpg"] == (tmp_path / "here" / "a b_deblurred.jpg").read_bytes()
    assert f"error: {host}/missing.jpg: cannot be fetched: no such file or folder" in result.stderr
    assert "hush" not in result.output
    assert not any(b"hush" in content for content in written.values())


@pytest.fixture(scope="module")
def s3():
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        place = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
        for name, value in (SECRETS | place).items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        files = fsspec.filesystem("s3", use_listings_cache=False)
        files.mkdir("photos")
        yield files
        S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(s3):
    for name in s3.find("photos"):
        s3.rm_file(name)
    return s3


def test_a_bucket_gives_the_results_of_a_folder(album, bucket, tmp_path):
    upload(album, "s3://photos/album")
    for key in ("x//odd.jpg", "x/../odd.jpg", "x//notes.txt", "a.jpg/hidden.jpg"):
        bucket.pipe_file(f"photos/album/{key}", b"1")
    bucket.pipe_file("photos/album/", b"")  # what consoles make for a folder
    words = ("-r", "--data", "npz", "--report")
    assert deblur("run", album, "-o", tmp_path / "sharp", *words).exit_code == 1
    result = deblur("run", "s3://photos/album/", "-o", "s3://photos/sharp", *words)
    assert "no folder can hold a file named s3://photos/album/a.jpg/hidden.jpg and 2 more" in result.stderr
    pictures = {
        name: content for name, content in content_of("s3://photos/sharp").items() if "report" not in name
    }
    expected = {
        name: content
        for name, content in local_content_of(tmp_path / "sharp").items()
        if "report" not in name
    }
    assert pictures == expected
    assert "hush" not in result.output
    again = deblur("run", "s3://photos/album/", "-o", "s3://photos/sharp", *words, "--skip-existing")
    assert "already exists (5 more photos like this)" in again.stderr


def test_a_bucket_puts_nothing_in_the_place_of_another_result(album, bucket, monkeypatch):
    upload(album, "s3://photos/album")
    restore = Deblurrer.restore

    def slow(self, photo, *rest):
        bucket.pipe_file("photos/out/a_deblurred.jpg", b"mine")
        return restore(self, photo, *rest)

    monkeypatch.setattr(Deblurrer, "restore", slow)
    result = deblur("run", "s3://photos/album/a.jpg", "-o", "s3://photos/out/")
    assert "s3://photos/out/a_deblurred.jpg: already exists" in errors_in(result)[0]
    assert bucket.cat_file("photos/out/a_deblurred.jpg") == b"mine"
    assert deblur("run", "s3://nobody/a.jpg", "-o", "s3://photos/out/").exit_code == 2
    for out in ("s3://nobody/", "s3://nobody/out", "s3://nobody/out/"):
        nowhere = deblur("run", album, "-o", out)
        assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)
        assert nowhere.stderr.endswith("no results can go there: no such bucket\n")


def test_an_original_is_one_by_whatever_address(album, bucket):
    upload(album, "s3://photos/album")
    before = content_of("s3://photos/album")
    words = ("run", "s3://photos/album/", "--overwrite")
    result = deblur(*words, "-o", "s3a://photos/album", "--suffix", "")
    assert "is an original and is never written" in result.stderr
    words = ("run", album / "a.jpg", "--overwrite", "--mask-file", "s3://photos/album/b.png")
    assert "is the mask to read" in deblur(*words, "-o", "s3a://photos/album/b.png").stderr
    assert content_of("s3://photos/album").items() >= before.items()
    once = deblur("run", "s3://photos/album/a.jpg", "s3a://photos/album/a.jpg", "--dry-run")
    assert once.stdout.count("a_deblurred.jpg") == 1


def test_a_run_over_a_bucket_is_interrupted_and_resumed(album, bucket, tmp_path):
    make_photo(album / "d_slow.jpg")
    upload(album, "s3://photos/album")
    words = ("run", "s3://photos/album/", "-o", "s3://photos/sharp/")
    private = {"TMPDIR": str(tmp_path / "private")}
    with started(*words, **private) as process:
        assert process.stderr is not None
        while b"working" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopped at s3://photos/album/d_slow.jpg; finished results are kept; --resume" in told
    assert names_in(tmp_path / "private") == set()
    bucket.rm_file("photos/album/d_slow.jpg")
    result = deblur(*words, "--resume")
    assert "s3://photos/album/a.jpg: finished before" in result.stderr
    assert "misnamed_deblurred.png" in content_of("s3://photos/sharp")


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    """A server, its folder, and what got its name there by renaming."""
    import asyncssh

    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("sftp")
    named, connections = [], []
    key = asyncssh.generate_private_key("ssh-ed25519")

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn):
            connections.append(conn)

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return password == "hush"

    class Files(asyncssh.SFTPServer):
        def __init__(self, chan):
            super().__init__(chan, chroot=str(folder))

        def posix_rename(self, oldpath, newpath):
            named.append((os.fsdecode(oldpath), os.fsdecode(newpath)))
            return super().posix_rename(oldpath, newpath)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen():
        how = {"server_factory": Server, "server_host_keys": [key], "sftp_factory": Files}
        return await asyncssh.listen("127.0.0.1", 0, **how)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(timeout=30)
    (home / ".ssh").mkdir()
    known = f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode()}"
    (home / ".ssh" / "known_hosts").write_text(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        yield f"127.0.0.1:{server.get_port()}", folder, named

    async def close():
        for connection in connections:
            connection.close()
            await connection.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run_coroutine_threadsafe(close(), loop).result(timeout=30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_on_a_server_with_folders_a_result_gets_its_name_last(album, sftp, tmp_path):
    host, folder, named = sftp
    shutil.copytree(album, folder / "album")
    (folder / "out" / "day").mkdir(parents=True)
    (folder / "out" / "day" / "c_deblurred.jpg").write_bytes(b"mine")
    words = (f"sftp://me:hush@{host}/album/", "-r", "-o", f"sftp://me:hush@{host}/out/")
    result = deblur("run", *words, "--skip-existing")
    reported = deblur("run", *words, "--skip-existing", "--report")
    page = (folder / "out" / "deblur_report" / "index.html").read_text()
    assert f"sftp://me@{host}/album/a.jpg" in page
    assert f"sftp://me@{host}/out/deblur_report/index.html" in reported.stdout
    shutil.rmtree(folder / "out" / "deblur_report")
    deblur("run", album, "-r", "-o", tmp_path / "out")
    expected = local_content_of(tmp_path / "out") | {"day/c_deblurred.jpg": b"mine"}
    names = {Path(name).name for name in expected}
    assert local_content_of(folder / "out") == expected
    assert f"sftp://me@{host}/out/a_deblurred.jpg" in result.stdout
    assert {Path(new).name for _, new in named} - {"index.html"} == names - {"c_deblurred.jpg"}
    assert all(Path(old).match(PARTIAL) for old, _ in named)
    assert "hush" not in result.output + reported.output + page
    refused = deblur("run", f"sftp://me:wrong-hush@{host}/album/", "-o", tmp_path / "none")
    assert "access is refused" in refused.output
    assert "hush" not in refused.output


def test_another_user_of_a_server_replaces_no_original(album, sftp):
    host, folder, _ = sftp
    shutil.copytree(album, folder / "mine")
    words = ("-o", f"ssh://you:hush@{host}/mine/", "--suffix", "", "--overwrite")
    result = deblur("run", f"sftp://me:hush@{host}/mine/", *words)
    assert "is an original and is never written" in result.stderr
    (folder / "link").symlink_to("mine")
    for count in ("*", "a.jpg"):  # many are listed, one is asked for
        words = ("-o", f"sftp://me:hush@{host}/link/", "--suffix", "", "--overwrite", "--include", count)
        linked = deblur("run", f"sftp://me:hush@{host}/mine/", *words)
        assert f"link/{'b.png' if count == '*' else count} is the photo itself" in linked.stderr
    assert local_content_of(folder / "mine").items() >= local_content_of(album).items()


def test_nothing_is_imported_for_photos_of_this_machine(tmp_path):
    photo = make_photo(tmp_path / "a.jpg")
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport cli_helpers\n"
        "sys.argv[1:] = ['run', sys.argv[2]]\n"
        "try: cli_helpers.main()\n"
        "finally: print(sorted({'fsspec', 's3fs', 'aiohttp'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(photo)]
    said = subprocess.check_output(command, env=process_environment(), text=True, timeout=120)
    assert said.splitlines()[-1] == "[]"
