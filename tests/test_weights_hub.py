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
from huggingface_hub import constants, file_download, hf_hub_download
from huggingface_hub.utils import close_session
from networks import lively, lively_detector

from deblur_cli import weights
from deblur_cli.cli import weights as catalog_command
from deblur_cli.errors import WeightsError
from deblur_cli.weights import catalog, hub

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
    """A catalog whose one entry lies on that Hub."""

    def enter(sha256):
        file = hub.HubFile(REPOSITORY, FILE)
        entry = catalog.CatalogEntry("far", "m2aenet", None, len(content), sha256, "noise", "MIT", file)
        monkeypatch.setattr(catalog, "installed", lambda: (entry,))
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
    path = weights.pull(ADDRESS)
    assert path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "hub" / "models--someone--nets" / "snapshots" / COMMIT)
    assert hf_hub_download(REPOSITORY, FILE, local_files_only=True) == str(path)  # other programs find it
    before = len(server.requests)
    assert weights.pull(ADDRESS) == path and weights.find(ADDRESS)[0] == path
    assert len(server.requests) == before


def test_a_revision_can_be_a_commit(server, content):
    assert weights.pull(f"{ADDRESS}@{COMMIT}").read_bytes() == content
    refused(f"{ADDRESS}@no-such-branch", "has no revision no-such-branch")


def test_a_connection_cut_in_the_middle_is_tried_again(server, content):
    server.cuts.append(100_000)
    assert weights.pull(ADDRESS).read_bytes() == content


def test_a_connection_that_keeps_breaking_is_one_line(server, tmp_path):
    server.cuts.extend([20_000] + [0] * 20)
    refused(ADDRESS, "the connection broke .*: give the same command again")
    assert not blobs(tmp_path)


def test_wrong_bytes_are_deleted(server, content, tmp_path):
    server.served = bytes([content[0] ^ 1]) + content[1:]
    refused(ADDRESS, "is not the file that was promised, and was deleted")
    assert not blobs(tmp_path)
    server.served = None
    assert weights.pull(ADDRESS).read_bytes() == content


def test_a_catalog_entry_whose_file_was_replaced_is_not_even_downloaded(server, pinned):
    pinned(sha256="0" * 64)
    refused("far", "now holds a different net.safetensors")
    assert "GET" not in server.methods()


def test_a_damaged_file_of_the_cache_is_refused_and_pulled_again(server, pinned, content):
    path = weights.pull("far")
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"is damaged .*`deblur weights remove far`"):
        weights.load("far")
    assert weights.pull("far").read_bytes() == content


@pytest.mark.parametrize(
    ("code", "headers", "message"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, r"refused \(401\)"),
        (404, {}, r"there is no net\.safetensors in someone/nets"),
        (429, {"Retry-After": "7"}, "try again in 7 seconds"),
        (429, {}, "try again in some minutes"),
        (503, {}, r"has a problem \(503\): try again later"),
    ],
)
def test_answers_that_are_errors_have_a_line_each(server, tmp_path, code, headers, message):
    server.failures.append(("HEAD", code, headers))
    refused(ADDRESS, message)
    server.failures.append(("GET", 503, {}))
    refused(ADDRESS, r"has a problem \(503\)")
    assert not blobs(tmp_path)


def test_missing_and_gated_repositories_have_a_line_each(server):
    refused("hf://someone/gone/net.safetensors", "there is no someone/gone on the Hub, or it is private")
    refused(f"hf://{REPOSITORY}/gone.safetensors", r"has no file gone\.safetensors")
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


@pytest.mark.parametrize(
    ("longer", "message"), [(-100_000, "ended too early"), (0, "a web page came instead"), (1, "too long")]
)
def test_a_page_in_the_place_of_the_file_is_named_and_not_kept(server, content, tmp_path, longer, message):
    page = b"\n<!DOCTYPE html><title>Please log in</title>"
    server.served = page.ljust(len(content) + longer)
    refused(ADDRESS, message)
    assert not blobs(tmp_path)
    server.served = None
    assert weights.pull(ADDRESS).read_bytes() == content


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
    refused(ADDRESS, "is not an address: unset HF_ENDPOINT")


def test_a_token_that_cannot_be_one_is_named(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ä")
    refused(ADDRESS, "check HF_TOKEN")


def test_offline_says_how_to_bring_the_file(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    refused(
        ADDRESS,
        "HF_HUB_OFFLINE forbids it: unset that, or download net.safetensors elsewhere and give its path",
    )
    assert not server.requests


def test_offline_runs_with_what_is_there(server, content, monkeypatch):
    weights.pull(ADDRESS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert weights.load(ADDRESS).architecture == "m2aenet"


def test_a_full_disk_is_named(server, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    refused(ADDRESS, "the disk of .* is full: make room, or set HF_HUB_CACHE")


def test_no_network_says_so(server):
    server.shutdown()
    server.server_close()
    refused(ADDRESS, "cannot reach http.*: check the network, or download net.safetensors elsewhere")


@pytest.mark.parametrize(
    "address",
    [
        *("hf://", "hf://one/two", "hf://a/b/../c", "hf://a/b/c@", "hf://-a/--b/c", "hf://a/b/c@../../d"),
        *("hf://a/b/c\\..\\d", "hf://a/b/C:/d", "hf://a/b/c\nd", "hf://a/b/c@/etc"),
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(WeightsError, match="is not a file address"):
        weights.source_of(address)


def test_list_pull_path_verify_and_remove(server, pinned, content, tmp_path):
    assert "no " in deblur("weights", "list").stdout
    result = deblur("weights", "path", "far")
    assert result.exit_code == 1 and "run `deblur weights pull far`" in result.stderr
    result = deblur("weights", "pull", "far")
    assert result.exit_code == 0, result.stderr
    assert "downloading far" in result.stderr and f"hf://{REPOSITORY}/{FILE}@main" in result.stderr
    assert deblur("weights", "path", "far").stdout == result.stdout
    assert "far: checksum OK" in deblur("weights", "verify", "--all").stdout
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
    wide = catalog_command.table([catalog_command.describe(entry) | {"scores": {"measure " * 9: "1 dB"}}])
    assert len(wide) == 2 and "SCORES" in wide[0]
    narrow = catalog_command.table([catalog_command.describe(entry) for entry in weights.installed()], 80)
    assert all(len(line) <= 80 for line in narrow)
    assert all(any(line.startswith(f"{one.name} ") for line in narrow) for one in weights.installed())
    narrow = catalog_command.table(
        [catalog_command.describe(entry) | {"scores": {"measure": "1 dB"}, "license": "L" * 40}], 80
    )
    assert all(len(line) <= 80 for line in narrow) and sum(line.count("L") for line in narrow[1:]) == 40


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
    words = ("weights", "publish", file, "--to", "me/mine", "--license", "apache-2.0")
    result = deblur(*words)
    assert result.exit_code == 2 and "no model card" in result.stderr and not server.uploads
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
    parsed = catalog.parse("mine", entry, tmp_path)
    assert parsed.hub == hub.HubFile("me/mine", "mine.safetensors", COMMIT)
    assert hub.download(parsed.hub, parsed.sha256, parsed.bytes).read_bytes() == content


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([("PUT", 403, {})], r"refused \(403\): set HF_TOKEN to a token that may write"),
        ([("PUT", 400, {})], "answered with status 400"),
        ([("PUT", 0, {})] * 9, "the connection broke .*: give the same command again"),
        ([("POST", 503, {})] * 9, r"has a problem \(503\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_upload_that_breaks_is_one_line_and_commits_nothing(server, content, tmp_path, failures, message):
    (tmp_path / "mine.safetensors").write_bytes(content)
    (tmp_path / "mine.md").write_text("# mine\n")
    server.failures.extend(failures)
    result = deblur(
        "weights", "publish", tmp_path / "mine.safetensors", "--to", "me/mine", "--license", "mit"
    )
    assert result.exit_code == 1 and re.search(message, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1 and "bug" not in result.stderr and not server.uploads


@pytest.mark.parametrize(
    "address", ["https://huggingface.co/a/b/resolve/main/c.pth", "HF://a/b/c", "hf:a/b/c"]
)
def test_addresses_of_another_form_tell_how_to_write_them(server, address):
    with pytest.raises(WeightsError, match=r"write hf://owner/repo/file"):
        weights.source_of(address)


def test_weights_are_on_this_machine_or_on_the_hub():
    with pytest.raises(WeightsError, match=r"^s3://bucket/net\.pth: only `deblur run` takes addresses"):
        weights.source_of("s3://bucket/net.pth")


def test_what_cannot_be_loaded_is_not_published(server, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"no weights")
    result = deblur("weights", "publish", file, "--to", "me/mine", "--license", "mit")
    assert result.exit_code == 2 and "not a .safetensors file" in result.stderr
    for wrong in (("--to", "mine", "--license", "mit"), ("--to", "me/mine", "--license", "My Own")):
        assert deblur("weights", "publish", file, *wrong).exit_code == 2
    assert not server.requests


def test_a_run_pulls_after_saying_so_and_misfits_are_told_before_a_photo_is_read(server, pinned, tmp_path):
    photo = tmp_path / "broken.jpg"
    photo.write_bytes(b"no photo")
    server.files[REPOSITORY, "other.safetensors"] = b"no weights"
    result = deblur("run", photo, "--weights", f"hf://{REPOSITORY}/other.safetensors")
    assert result.exit_code == 2 and "not a .safetensors file or is damaged" in result.stderr
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
