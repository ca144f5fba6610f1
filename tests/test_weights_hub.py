"""Weights of the Hub, against a server on localhost: what is kept is whole and right."""

import errno
import hashlib
import os
import re
import subprocess
import sys
import tomllib

import pytest
from cli_helpers import deblur, make_photo, process_environment
from hub_server import COMMIT, HubServer
from huggingface_hub import constants, file_download
from huggingface_hub.utils import close_session
from networks import lively, lively_detector

from deblur_cli import weights
from deblur_cli.cli import catalogue as catalogue_command
from deblur_cli.errors import WeightsError
from deblur_cli.weights import catalogue, hub, hub_errors

REPOSITORY, FILE = "someone/nets", "net.safetensors"
ADDRESS = f"hf://{REPOSITORY}/{FILE}"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / FILE
    weights.save(path, lively(), {})
    return path.read_bytes()


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    """A Hub with one file, and an empty cache; what huggingface_hub read from the environment is set anew."""
    with HubServer() as running:
        running.files[REPOSITORY, FILE] = content
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        close_session()
        yield running
        close_session()


@pytest.fixture
def pinned(server, content, monkeypatch):
    """A catalogue whose one entry lies on that Hub."""

    def enter(sha256):
        file = hub.HubFile(REPOSITORY, FILE)
        entry = catalogue.CatalogueEntry("far", "m2aenet", None, len(content), sha256, "noise", "MIT", file)
        monkeypatch.setattr(catalogue, "installed", lambda: (entry,))
        monkeypatch.setattr(weights, "installed", lambda: (entry,))

    enter(hashlib.sha256(content).hexdigest())
    return enter


def blobs(tmp_path):
    return sorted(path for path in tmp_path.glob("hub/*/blobs/*"))


def refused(name, match):
    with pytest.raises(WeightsError, match=match) as caught:
        weights.pull(name)
    assert "\n" not in str(caught.value)


def test_what_is_pulled_is_the_file_and_is_asked_for_once(server, content, tmp_path):
    seen = []
    path = weights.pull(ADDRESS, lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "hub" / "models--someone--nets" / "snapshots" / COMMIT)
    assert seen[-1] == (len(content), len(content)) and seen == sorted(seen)
    before = len(server.requests)
    assert weights.pull(ADDRESS) == path and weights.find(ADDRESS)[0] == path
    assert len(server.requests) == before


def test_other_programs_find_it_in_the_cache(server, content):
    path = weights.pull(ADDRESS)
    from huggingface_hub import hf_hub_download

    assert hf_hub_download(REPOSITORY, FILE, local_files_only=True) == str(path)


def test_a_revision_can_be_a_commit(server, content):
    assert weights.pull(f"{ADDRESS}@{COMMIT}").read_bytes() == content
    refused(f"{ADDRESS}@no-such-branch", "has no revision no-such-branch")


def test_a_connection_cut_in_the_middle_is_taken_up_again(server, content):
    server.cuts.append(100_000)
    assert weights.pull(ADDRESS).read_bytes() == content
    ranges = [asked for method, _, asked in server.requests if method == "GET" and asked]
    assert ranges and int(ranges[0].removeprefix("bytes=").rstrip("-")) > 0


def test_a_shaky_connection_gets_on_with_every_try(server, content):
    server.cuts.extend([100_000] * 2)
    assert weights.pull(ADDRESS).read_bytes() == content
    starts = [asked for method, path, asked in server.requests if method == "GET" and "/cdn/" in path]
    assert len(starts) == 3 and len(set(starts)) == 3


def test_an_interrupted_download_is_gone_on_with_by_the_next_command(server, content, tmp_path):
    def stop(done, size):
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.pull(ADDRESS, stop)
    (partial,) = blobs(tmp_path)
    there = partial.stat().st_size
    assert 0 < there < len(content) and weights.source_of(ADDRESS).path is None
    server.requests.clear()
    assert weights.pull(ADDRESS).read_bytes() == content
    assert next(asked for method, _, asked in server.requests if method == "GET") == f"bytes={there}-"
    assert not partial.exists()


def test_a_server_without_ranges_begins_again(server, content):
    server.ranges = False
    server.cuts.append(100_000)
    assert weights.pull(ADDRESS).read_bytes() == content


def test_a_connection_that_keeps_breaking_is_one_line_and_keeps_what_came(server, tmp_path):
    server.cuts.extend([20_000] + [0] * 20)
    refused(ADDRESS, "the connection broke .*goes on from there")
    (partial,) = blobs(tmp_path)
    assert partial.name.endswith(hub.PARTIAL) and partial.stat().st_size > 0


def test_wrong_bytes_are_deleted(server, content, tmp_path):
    server.served = bytes([content[0] ^ 1]) + content[1:]
    refused(ADDRESS, "is not the one promised and was deleted")
    assert not blobs(tmp_path)
    server.served = None
    assert weights.pull(ADDRESS).read_bytes() == content


def test_a_catalogue_entry_whose_file_was_replaced_is_not_even_downloaded(server, pinned):
    pinned(sha256="0" * 64)
    refused("far", "now holds another net.safetensors")
    assert "GET" not in server.methods()


def test_a_damaged_file_of_the_cache_is_refused_and_pulled_again(server, pinned, content):
    path = weights.pull("far")
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"is damaged .*`deblur weights remove far`"):
        weights.load("far")
    assert weights.pull("far").read_bytes() == content


def test_an_entry_is_the_network_that_it_says(server, pinned):
    loaded = weights.load("far")
    assert (loaded.name, loaded.architecture) == ("far", "m2aenet")


@pytest.mark.parametrize(
    ("code", "headers", "message"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, r"refused \(401\)"),
        (404, {}, r"there is no net\.safetensors in someone/nets"),
        (429, {"Retry-After": "7"}, "try again in 7 seconds"),
        (429, {}, "try again in some minutes"),
        (503, {}, r"out of order \(503\): try again later"),
    ],
)
def test_answers_that_are_errors_have_a_line_each(server, tmp_path, code, headers, message):
    server.failures.append(("HEAD", code, headers))
    refused(ADDRESS, message)
    server.failures.append(("GET", 503, {}))
    refused(ADDRESS, r"out of order \(503\)")
    assert not [path for path in blobs(tmp_path) if not path.name.endswith(hub.PARTIAL)]


def test_missing_and_gated_repositories_have_a_line_each(server):
    refused("hf://someone/gone/net.safetensors", "there is no someone/gone on the Hub, or it is private")
    refused(f"hf://{REPOSITORY}/gone.safetensors", r"holds no file gone\.safetensors")
    server.gated = True
    refused(ADDRESS, f"is gated: accept its terms at {server.url}/{REPOSITORY}.*HF_TOKEN")


def test_the_token_is_sent_and_a_wrong_one_is_named(server, content, monkeypatch):
    server.token = "secret"
    refused(ADDRESS, "check HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert weights.pull(ADDRESS).read_bytes() == content


def test_a_mirror_that_answers_with_a_page_is_named(server, tmp_path):
    server.page = True
    refused(ADDRESS, "does not answer as the Hugging Face Hub does, perhaps with a web page")


@pytest.mark.parametrize("longer", [-100_000, 0, 1])
def test_a_page_in_the_place_of_the_file_is_named_and_not_kept(server, content, tmp_path, longer):
    page = b"\n<!DOCTYPE html><title>Please log in</title>"
    server.served = page.ljust(len(content) + longer)
    refused(ADDRESS, "a web page comes instead of the file")
    assert not blobs(tmp_path)
    server.served = None
    assert weights.pull(ADDRESS).read_bytes() == content


def test_more_than_was_promised_is_not_taken(server, content, tmp_path):
    server.served = content + b"more"
    refused(ADDRESS, f"more comes than the {len(content):,} bytes promised")
    assert not blobs(tmp_path)


@pytest.mark.parametrize(
    "told", [{"X-Linked-Etag": '"../../../evil"'}, {"X-Linked-Etag": '".."'}, {"X-Repo-Commit": "../../evil"}]
)
def test_a_server_cannot_choose_where_files_are_written(server, tmp_path, told):
    server.told = told
    refused(ADDRESS, "does not answer as the Hugging Face Hub does")
    assert "GET" not in server.methods() and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("endpoint", ["nonsense", "", "ftp://hub.example"])
def test_an_endpoint_that_is_no_address_is_named(server, monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    refused(ADDRESS, "is no address: unset HF_ENDPOINT")


def test_a_token_that_cannot_be_one_is_named(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ä")
    refused(ADDRESS, "check HF_TOKEN")


def test_a_connection_lost_at_the_very_end_costs_nothing_but_another_try(server, content):
    def lose(done, size):
        if done == size and not server.failures:
            server.failures.extend([("HEAD", 503, {})] * 9)

    with pytest.raises(WeightsError, match=r"out of order \(503\)"):
        weights.pull(ADDRESS, lose)
    server.failures.clear()
    server.requests.clear()
    assert weights.pull(ADDRESS).read_bytes() == content
    assert not [path for _, path, _ in server.requests if "/cdn/" in path]


def test_offline_says_how_to_bring_the_file(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    refused(ADDRESS, r"HF_HUB_OFFLINE forbids it.*give its path as --weights.*models--someone--nets")
    assert not server.requests


def test_offline_runs_with_what_is_there(server, content, monkeypatch):
    weights.pull(ADDRESS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert weights.load(ADDRESS).architecture == "m2aenet"


def test_no_network_says_so(server):
    server.shutdown()
    server.server_close()
    refused(ADDRESS, "cannot reach http.*: check the network, or download net.safetensors elsewhere")


def test_a_full_disk_is_told_before_and_during_the_download(server, monkeypatch):
    class Usage:
        free = 1000

    with monkeypatch.context() as patch:
        patch.setattr(hub.shutil, "disk_usage", lambda folder: Usage)
        refused(ADDRESS, "MB left.*make room, or set HF_HUB_CACHE")
    assert "GET" not in server.methods()

    def full(self, piece):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub.HashingFile, "write", full)
    refused(ADDRESS, "the disk of .* is full: make room")


@pytest.mark.parametrize(
    "address",
    [
        *("hf://", "hf://one/two", "hf://a/b/../c", "hf://a/b/c@", "hf://-a/--b/c", "hf://a/b/c@../../d"),
        *("hf://a/b/c\\..\\d", "hf://a/b/C:/d", "hf://a/b/c\nd", "hf://a/b/c@/etc"),
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(WeightsError, match="is no address of a file"):
        weights.source_of(address)


def test_every_error_of_the_library_becomes_one_line():
    line = hub_errors.explain(OSError("Consistency check failed"), hub.parse(ADDRESS))
    assert "ended too early" in line


def environment(server, tmp_path, **more):
    home = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    return process_environment() | home | {"NO_PROXY": "127.0.0.1,localhost"} | more


def test_two_processes_at_once_download_once(server, content, tmp_path):
    server.pause.clear()  # bodies wait until both have begun
    command = [sys.executable, "-m", "deblur_cli", "weights", "pull", ADDRESS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment(server, tmp_path), **pipes) for _ in range(2)]
    for _ in range(6000):
        if server.methods().count("HEAD") >= 2:
            break
        server.pause.wait(0.01)
    server.pause.set()
    found = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], found
    assert found[0][0] == found[1][0]
    path = found[0][0].strip()
    with open(path, "rb") as file:  # noqa: PTH123
        assert file.read() == content
    assert str(tmp_path / "home" / "hub") in path
    assert sum(1 for method, asked, _ in server.requests if method == "GET" and "/cdn/" in asked) == 1


def test_list_pull_path_verify_and_remove(server, pinned, content, tmp_path):
    assert "no " in deblur("weights", "list").stdout
    result = deblur("weights", "path", "far")
    assert result.exit_code == 1 and "`deblur weights pull far` brings it" in result.stderr
    result = deblur("weights", "pull", "far")
    assert result.exit_code == 0, result.stderr
    assert "downloading far" in result.stderr and f"hf://{REPOSITORY}/{FILE}@main" in result.stderr
    assert deblur("weights", "path", "far").stdout == result.stdout
    assert "far: hash right" in deblur("weights", "verify", "--all").stdout
    assert '"here": true' in deblur("weights", "list", "--json").stdout
    result = deblur("weights", "remove", "far")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert not blobs(tmp_path) and weights.source_of("far").path is None


def test_weights_of_the_hub_can_be_converted(server, content, tmp_path):
    for number, address in enumerate((ADDRESS, f"{ADDRESS}@{COMMIT}")):
        result = deblur("weights", "convert", address, "-o", tmp_path / str(number))
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[0] == str(tmp_path / str(number) / FILE)
        assert (tmp_path / str(number) / FILE).read_bytes() == content


def test_the_table_fits_a_narrow_terminal(server, pinned):
    entry = weights.installed()[0]
    wide = catalogue_command.table([catalogue_command.describe(entry) | {"scores": {"measure " * 9: "1 dB"}}])
    assert len(wide) == 2 and "SCORES" in wide[0]
    narrow = catalogue_command.table(
        [catalogue_command.describe(entry) | {"scores": {"measure": "1 dB"}, "licence": "L" * 40}], 80
    )
    assert all(len(line) <= 80 for line in narrow) and narrow[2].strip() == "measure 1 dB"


def test_remove_leaves_content_that_another_file_shows(server, content, tmp_path):
    server.files[REPOSITORY, "copy.safetensors"] = content
    first, second = weights.pull(ADDRESS), weights.pull(f"hf://{REPOSITORY}/copy.safetensors")
    assert weights.remove(ADDRESS) == [first]
    assert second.read_bytes() == content


def test_several_names_are_all_tried(server, pinned, content):
    result = deblur("weights", "pull", "hf://someone/gone/x.pth", "far")
    assert result.exit_code == 1 and "there is no someone/gone" in result.stderr
    assert result.stdout.strip() == str(weights.source_of("far").path)


def test_wrong_usage_is_one_line(server, pinned, tmp_path):
    for words in (["pull"], ["pull", "far", "--all"], ["verify"], ["remove"]):
        result = deblur("weights", *words)
        assert result.exit_code == 2 and "give either names or --all" in result.stderr
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"mine")
    result = deblur("weights", "remove", own)
    assert result.exit_code == 1 and "your own file" in result.stderr and own.exists()


# huggingface_hub uploads in a way that httpx2 is about to drop
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_published_weights_and_card_can_be_pulled_again(server, content, tmp_path, monkeypatch):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(content)
    words = ("weights", "publish", file, "--to", "me/mine", "--licence", "apache-2.0")
    result = deblur(*words)
    assert result.exit_code == 1 and "no model card" in result.stderr and not server.uploads
    (tmp_path / "mine.md").write_text("# mine\n")
    server.token = "secret"
    result = deblur(*words)
    assert result.exit_code == 1 and "HF_TOKEN" in result.stderr and result.stderr.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", "secret")
    result = deblur(*words)
    assert result.exit_code == 0, result.stderr
    assert f"hf://me/mine/mine.safetensors@{COMMIT}" in result.stderr
    entry = tomllib.loads(result.stdout)["mine"]
    card = server.uploads["me/mine", "README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n") and card.endswith("# mine\n")
    server.files.update(server.uploads)
    parsed = catalogue.parse("mine", entry, tmp_path)
    assert parsed.hub == hub.HubFile("me/mine", "mine.safetensors", COMMIT)
    assert hub.fetch(parsed.hub, parsed.sha256, parsed.bytes).read_bytes() == content


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([("PUT", 403, {})], r"refused \(403\): set HF_TOKEN to a token that may write"),
        ([("PUT", 400, {})], "answered with status 400"),
        ([("PUT", 0, {})] * 9, "the connection broke .*: give the same command again"),
        ([("POST", 503, {})] * 9, r"out of order \(503\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_upload_that_breaks_is_one_line_and_commits_nothing(server, content, tmp_path, failures, message):
    (tmp_path / "mine.safetensors").write_bytes(content)
    (tmp_path / "mine.md").write_text("# mine\n")
    server.failures.extend(failures)
    result = deblur(
        "weights", "publish", tmp_path / "mine.safetensors", "--to", "me/mine", "--licence", "mit"
    )
    assert result.exit_code == 1 and re.search(message, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1 and "bug" not in result.stderr and not server.uploads


def test_what_another_process_is_downloading_is_not_removed(server, content, tmp_path):
    tried = []

    def meddle(done, size):
        if not tried:
            tried.append(done)
            with pytest.raises(WeightsError, match="is being downloaded just now"):
                weights.remove(ADDRESS)

    assert weights.pull(ADDRESS, meddle).read_bytes() == content
    assert tried


@pytest.mark.parametrize(
    "address", ["https://huggingface.co/a/b/resolve/main/c.pth", "HF://a/b/c", "hf:a/b/c"]
)
def test_addresses_of_another_form_tell_how_to_write_them(server, address):
    with pytest.raises(WeightsError, match=r"write hf://owner/repo/file"):
        weights.source_of(address)


def test_what_cannot_be_loaded_is_not_published(server, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"no weights")
    result = deblur("weights", "publish", file, "--to", "me/mine", "--licence", "mit")
    assert result.exit_code == 1 and "not a .safetensors file" in result.stderr
    for wrong in (("--to", "mine", "--licence", "mit"), ("--to", "me/mine", "--licence", "My Own")):
        assert deblur("weights", "publish", file, *wrong).exit_code == 2
    assert not server.requests


def test_a_run_pulls_after_saying_so_and_misfits_are_told_before_a_photo_is_read(server, pinned, tmp_path):
    photo = tmp_path / "broken.jpg"
    photo.write_bytes(b"no photo")
    server.files[REPOSITORY, "other.safetensors"] = b"no weights"
    result = deblur("run", photo, "--weights", f"hf://{REPOSITORY}/other.safetensors")
    assert result.exit_code == 1 and "not a .safetensors file or is damaged" in result.stderr
    assert "broken.jpg" not in result.stderr
    photo = make_photo(tmp_path / "photo.png")
    result = deblur("run", photo, "--weights", "far")
    assert result.exit_code == 0, result.stderr
    assert "downloading far" in result.stderr and ", far, epsilon 0.5)" in result.stderr
    assert "downloading" not in deblur("run", photo, "--weights", "far", "--overwrite").stderr


@pytest.mark.parametrize(
    "words",
    [
        ("epsilon", "photo.png"),
        ("bench", "--size", "64x64", "--only", "detect", "--repeats", "1"),
        ("evaluate", "pairs", "--limit", "1"),
    ],
)
def test_every_command_says_what_it_downloads(server, pinned, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "photo.png")
    for name in ("blur", "sharp"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        make_photo(tmp_path / "pairs" / name / "one.png")
    result = deblur(*words, "--weights", "far")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"downloading far (0.7 MB) from {ADDRESS}@main\n")


def test_a_dry_run_tells_the_download_and_leaves_it(server, pinned, tmp_path):
    photo = make_photo(tmp_path / "photo.png")
    result = deblur("run", photo, "--weights", "far", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert f"would first download far (0.7 MB) from {ADDRESS}@main" in result.stderr
    assert server.requests == []
    deblur("weights", "pull", "far")
    assert "download" not in (result := deblur("run", photo, "--weights", "far", "--dry-run")).stderr
    assert "min" in result.stderr or " s" in result.stderr


def test_a_detector_is_told_and_downloaded_as_weights_are(server, pinned, tmp_path):
    photo, finder = make_photo(tmp_path / "photo.png"), f"hf://{REPOSITORY}/finder.safetensors"
    weights.save(tmp_path / "finder.safetensors", lively_detector(), {})
    server.files[REPOSITORY, "finder.safetensors"] = (tmp_path / "finder.safetensors").read_bytes()
    words = ("run", photo, "--weights", "far", "--detector", finder)
    result = deblur(*words, "--dry-run")
    assert (
        f"would first download far (0.7 MB) from {ADDRESS}@main and {finder} from {finder}" in result.stderr
    )
    assert server.requests == []
    result = deblur(*words)
    assert result.exit_code == 0, result.stderr
    assert f"downloading {finder} from {finder}@main\n" in result.stderr
    assert f"far + {finder}" in result.stderr


def test_what_is_here_is_listed_and_found_without_torch():
    code = (
        "import sys; from deblur_cli.cli.app import app\n"
        "for words in (['list'], ['path', 'm2aenet-small'], ['pull', 'm2aenet-small']):\n"
        "    try: app(['weights', *words])\n"
        "    except SystemExit as end: assert not end.code\n"
        "print({'torch', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=process_environment()
    )
    assert done.stderr == "set()\n"
