"""`deblur run` on archives: what is left out of them, and what goes along with each photo."""

import json
from pathlib import Path, PurePosixPath

import pytest
from cli_helpers import deblur, install, make_photo, names_in, stop_at
from photo_raw import make_dng, quarters
from PIL import Image

from deblur_cli.cli.run.collect import collect
from deblur_cli.cli.run.options import Existing, RunOptions
from deblur_cli.cli.run.patterns import parse_pattern
from deblur_cli.cli.run.plan import make_plan


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


def summary_of(result):
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("pattern", "excluded", "kept"),
    [
        ("*_edit.jpg", ["a_edit.jpg", "x/y/a_edit.jpg"], ["a_edit.jpg.png", "A_EDIT.JPG"]),
        ("drafts", ["drafts", "x/drafts/"], ["drafts2/", "x/my drafts"]),
        ("drafts/", ["drafts/", "x/drafts/"], ["drafts"]),
        ("/drafts", ["drafts/"], ["x/drafts/"]),
        ("trips/*/raw", ["trips/rome/raw/"], ["trips/raw/", "trips/rome/old/raw/", "my/trips/rome/raw/"]),
        ("./trips/*.jpg", ["trips/a.jpg"], ["trips/rome/a.jpg", "a.jpg"]),
        ("**/raw/*.jpg", ["raw/a.jpg", "x/y/raw/a.jpg"], ["raw/x/a.jpg"]),
        ("trips/**", ["trips/a.jpg", "trips/x/y.jpg"], ["trips/", "a.jpg"]),
        ("*.jpg/**", ["a.jpg/b.jpg"], ["a.jpg"]),
        ("IMG_[0-4]*", ["IMG_1.jpg"], ["IMG_5.jpg"]),
    ],
)
def test_patterns_mean_what_gitignore_and_rsync_mean(pattern, excluded, kept):
    def matches(path):
        return parse_pattern(pattern).matches(PurePosixPath(path), is_folder=path.endswith("/"))

    assert [path for path in (*excluded, *kept) if matches(path)] == excluded


def test_excluded_photos_and_folders_are_left_out_and_counted(tmp_path):
    for name in ("a.png", "a_edit.png", "drafts/b.png", "deep/drafts/c.png", "deep/d.png"):
        make_photo(tmp_path / "in" / name)
    words = ("run", "-r", tmp_path / "in", "-o", tmp_path / "out", "--exclude", "*_edit.png")
    words += ("--exclude", "drafts/", "--exclude", "*.nef")
    foretold = deblur(*words, "--dry-run")
    result = deblur(*words)
    assert result.exit_code == 0
    assert names_in(tmp_path / "out") == {"a_deblurred.png", "deep/d_deblurred.png"}
    for shown in (foretold, result):
        assert "1 photo and 2 folders left out by --exclude" in shown.stderr.splitlines()[-1]
        assert "--exclude *.nef matches no" in shown.stderr  # a typo would otherwise go unnoticed
        assert "--exclude drafts/ matches no" not in shown.stderr
    counts = summary_of(deblur(*words, "--overwrite", "--json"))
    assert (counts["photos"], counts["excluded"], counts["excluded_folders"]) == (2, 1, 2)


def test_only_what_is_included_is_taken_and_the_rest_counted(tmp_path):
    for name in ("a.png", "b.jpg", "b_deblurred.jpg", "trips/c.png", "trips/deep/d.jpg", "more/e.tif"):
        make_photo(tmp_path / "in" / name)
    words = (
        "run",
        "-r",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--include",
        "*.jpg",
        "--include",
        "trips/",
    )
    words += ("--include", "*.JPG", "--exclude", "deep/")
    foretold = deblur(*words, "--dry-run")
    result = deblur(*words)
    assert names_in(tmp_path / "out") == {"b_deblurred.jpg", "trips/c_deblurred.png"}
    for shown in (foretold, result):
        counts = "1 folder left out by --exclude; 2 photos left out by --include; 1 earlier result left out"
        assert shown.stderr.splitlines()[-1].endswith(counts)
        assert "--include *.JPG matches no photo" in shown.stderr and "--include *.jpg" not in shown.stderr
    summary = summary_of(deblur(*words, "--overwrite", "--json"))
    assert (summary["photos"], summary["not_included"], summary["former_results"]) == (2, 2, 1)
    assert (
        "1 photo left out by --include"
        in deblur(*words[:1], make_photo(tmp_path / "a.png"), *words[5:7]).stderr
    )


def test_photos_named_by_the_shell_can_be_excluded_and_nothing_left_is_no_failure(tmp_path):
    photos = [make_photo(tmp_path / name) for name in ("a.png", "a_edit.png")]
    assert deblur("run", *photos, "--exclude", "*_edit*").stdout == f"{tmp_path / 'a_deblurred.png'}\n"
    result = deblur("run", photos[1], "--exclude", "*_edit*")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 photo left out by --exclude" in result.stderr
    folder = deblur("run", tmp_path, "--exclude", "*")
    assert (folder.exit_code, folder.stdout) == (0, "")


@pytest.mark.parametrize("pattern", ["", "/", "!a.png"])
def test_patterns_that_cannot_be_meant_are_wrong_usage(tmp_path, pattern):
    result = deblur("run", make_photo(tmp_path / "a.png"), "--exclude", pattern)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--exclude" in result.stderr
    assert names_in(tmp_path) == {"a.png"}


def test_folders_that_cameras_and_systems_make_are_skipped_and_named_once(tmp_path):
    systems = ("@eaDir", ".thumbnails", "lost+found", "#recycle", ".Trash-1000", "$Recycle.Bin")
    systems += ("System Volume Information", "deep/@eaDir")
    for folder in (*systems, "deep"):
        make_photo(tmp_path / folder / "a.png")
    make_photo(tmp_path / "._a.png")
    result = deblur("run", "-r", tmp_path, "-o", tmp_path / "out")
    assert names_in(tmp_path / "out") == {"deep/a_deblurred.png"}
    (line,) = (line for line in result.stderr.splitlines() if "skipped" in line)
    assert "8 hidden or system folders skipped" in line and line.count("@eaDir") == 1
    assert "hidden or system" not in deblur("run", tmp_path / "deep", "--overwrite").stderr
    for folder in ("@eaDir", ".thumbnails"):
        named = deblur("run", "-r", tmp_path / folder)
        assert named.stdout == f"{tmp_path / folder / 'a_deblurred.png'}\n"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif"])
def test_a_result_is_known_whatever_its_name_and_not_deblurred_again(tmp_path, name):
    result, photo = tmp_path / "renamed" / name, make_photo(tmp_path / f"b{Path(name).suffix}")
    deblur("run", make_photo(tmp_path / name), "-o", result)
    words = ("run", photo, result, "-o", tmp_path / "out")
    foretold, batch = deblur(*words, "--dry-run"), deblur(*words)
    assert batch.stdout == f"{tmp_path / 'out' / f'b_deblurred{photo.suffix}'}\n"
    for shown in (foretold, batch):
        (line,) = (line for line in shown.stderr.splitlines() if line.startswith(f"{result}: skipped"))
        assert "a result of deblur" in line and "--again" in line
        assert shown.exit_code == 0
    assert "1 to skip" in foretold.stderr and "1 skipped" in batch.stderr
    again = deblur(*words, "--again", "--overwrite")
    assert len(again.stdout.splitlines()) == 2


def test_a_result_given_alone_is_refused_unless_asked_for_again(tmp_path):
    result = tmp_path / "b.png"
    deblur("run", make_photo(tmp_path / "a.png"), "-o", result)
    for words in (("run", result), ("run", result, "--dry-run"), ("run", result, "--json")):
        refused = deblur(*words)
        assert refused.exit_code == 1
        assert refused.stderr.splitlines()[0].startswith(f"error: {result}: is a result of deblur")
        assert "--again" in refused.stderr
    assert names_in(tmp_path) == {"a.png", "b.png"}
    assert deblur("run", result, "--only-maps", "-o", tmp_path / "maps").exit_code == 0
    assert deblur("run", result, "--again").stdout == f"{tmp_path / 'b_deblurred.png'}\n"


def test_a_folder_of_results_alone_says_how_to_deblur_them_again(tmp_path):
    make_photo(tmp_path / "a.jpg")
    deblur("run", tmp_path / "a.jpg", "-o", tmp_path / "out", "--mask")
    refused = deblur("run", tmp_path / "out")
    assert refused.exit_code == 2 and "--again" in refused.stderr
    again = deblur("run", tmp_path / "out", "--again", "-o", tmp_path / "twice")
    assert again.stdout == f"{tmp_path / 'twice' / 'a_deblurred_deblurred.jpg'}\n"  # not of the mask


def test_other_software_is_no_note(tmp_path):
    exif = Image.Exif()
    for index, software in enumerate(("Deblur 3", "my deblur 1.0 (x)", "GIMP; unblur 2 (y)", "deblur")):
        exif[305] = software
        Image.effect_noise((48, 32), 90).convert("RGB").save(tmp_path / f"{index}.jpg", exif=exif)
    assert len(deblur("run", tmp_path).stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("prefer", "taken"),
    [
        (
            "both",
            {"a.DNG", "A.jpg", "b.jpg", "c.heic", "c.JPG", "d.hif", "d.cr3", "e.nef", "e.jpeg", "e.tif"},
        ),
        ("raw", {"a.DNG", "b.jpg", "c.heic", "c.JPG", "d.cr3", "e.nef", "e.tif"}),
        ("jpeg", {"A.jpg", "b.jpg", "c.JPG", "d.hif", "e.jpeg", "e.tif"}),
    ],
)
def test_of_a_shot_in_two_formats_the_preferred_one_is_taken(tmp_path, prefer, taken):
    names = {"a.DNG", "A.jpg", "b.jpg", "c.heic", "c.JPG", "d.hif", "d.cr3", "e.nef", "e.jpeg", "e.tif"}
    for name in (*names, "raw/b.dng"):  # in another folder it is no pair
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    options = RunOptions(inputs=[tmp_path], recursive=True, prefer=prefer, tile=None, actor_cpus=None)
    plan = make_plan(collect(options), options, Existing.replace)
    assert {str(job.source.relative_to(tmp_path)) for job in plan.jobs} == {*taken, "raw/b.dng"}
    assert plan.left_out.record()["other_of_pair"] == len(names - taken)


def test_photos_left_out_of_pairs_are_counted_and_maps_need_no_long_names(tmp_path):
    make_photo(tmp_path / "a.jpg")
    make_photo(tmp_path / "a.tif").rename(tmp_path / "a.dng")
    words = ("run", tmp_path, "--prefer", "JPG", "--only-maps", "--mask")
    foretold, result = deblur(*words, "--dry-run"), deblur(*words)
    assert result.stdout == f"{tmp_path / 'a_mask.png'}\n"
    for shown in (foretold, result):
        assert shown.stderr.splitlines()[-1].endswith("1 photo left out by --prefer")
    # an excluded photo prefers nothing
    other = deblur(*words, "--exclude", "*.jpg", "-o", tmp_path / "out", "--dry-run")
    assert str(tmp_path / "a.dng") in other.stdout


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" rdf:about="NAME"/>
</rdf:RDF></x:xmpmeta>"""


def make_sidecars(*paths):
    for path in paths:
        path.write_text(XMP.replace("NAME", path.name))


def test_sidecars_of_both_names_go_with_their_result(tmp_path):
    make_photo(tmp_path / "in" / "a.jpg"), make_photo(tmp_path / "in" / "b.png")
    make_sidecars(*(tmp_path / "in" / name for name in ("a.XMP", "a.jpg.xmp", "b_01.png.xmp", "c.xmp")))
    words = ("run", tmp_path / "in", "-o", tmp_path / "out", "--sidecars")
    copies = [tmp_path / "out" / name for name in ("a_deblurred.xmp", "a_deblurred.jpg.xmp")]
    assert f"{copies[0]}, {copies[1]}" in deblur(*words, "--dry-run").stdout
    result = deblur(*words)
    out = ["a_deblurred.jpg", *(path.name for path in copies), "b_deblurred.png"]
    assert result.stdout.splitlines() == [str(tmp_path / "out" / name) for name in out]
    assert copies[0].read_text() == XMP.replace("NAME", "a.XMP")
    assert copies[1].read_text() == XMP.replace("NAME", "a.jpg.xmp")
    (tmp_path / "in" / "b.png").unlink()
    (record,) = (
        json.loads(line) for line in deblur(*words, "--overwrite", "--json").stdout.splitlines()[:-1]
    )
    assert (record["sidecar"], record["sidecar_with_ending"]) == tuple(map(str, copies))


def test_a_sidecar_of_two_photos_goes_with_the_raw(tmp_path):
    make_photo(tmp_path / "a.jpg"), make_photo(tmp_path / "b.jpg"), make_photo(tmp_path / "b.png")
    make_photo(tmp_path / "a.tif").rename(tmp_path / "a.dng")
    make_sidecars(tmp_path / "a.xmp", tmp_path / "b.xmp")
    result = deblur("run", tmp_path, "-o", tmp_path / "out", "--sidecars")
    expected = {"a_deblurred.jpg", "a_deblurred.tif", "a_deblurred.xmp"}
    expected |= {"b_deblurred.jpg", "b_deblurred.png", "b_deblurred.xmp"}
    assert (result.exit_code, names_in(tmp_path / "out")) == (0, expected)
    order = [Path(line).name for line in result.stdout.splitlines()]
    assert order.index("a_deblurred.xmp") == order.index("a_deblurred.tif") + 1


def test_a_sidecar_says_upright_where_the_photo_is_turned_and_stays_else(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for name in ("turned.jpg", "calm.jpg"):
        Image.effect_noise((48, 32), 90).convert("RGB").save(tmp_path / name, exif=exif)
    make_photo(tmp_path / "plain.jpg")  # turned by the user in an editor
    broken = "<x:xmpmeta tiff:Orientation='6'>"
    (tmp_path / "turned.jpg.xmp").write_text(broken)
    make_sidecars(*(tmp_path / name for name in ("turned.xmp", "calm.xmp", "plain.xmp")))
    assert deblur("run", tmp_path, "-o", tmp_path / "out", "--sidecars").exit_code == 0

    def copy_of(name):
        return (tmp_path / "out" / name).read_text()

    assert copy_of("turned_deblurred.xmp") == XMP.replace('"6"', '"1"').replace("NAME", "turned.xmp")
    assert copy_of("turned_deblurred.jpg.xmp") == broken
    assert copy_of("calm_deblurred.xmp") == XMP.replace("NAME", "calm.xmp")  # the photo is copied as it was
    assert copy_of("plain_deblurred.xmp") == XMP.replace("NAME", "plain.xmp")


def test_a_sidecar_replaces_nothing_and_is_never_written_itself(tmp_path):
    photo, sidecar = make_photo(tmp_path / "a.jpg"), tmp_path / "a.xmp"
    make_sidecars(sidecar)
    other = tmp_path / "out" / "a_deblurred.xmp"
    other.parent.mkdir()
    other.write_text("mine")
    words = ("run", photo, "--sidecars", "-o", tmp_path / "out")
    refused = deblur(*words)
    assert (refused.exit_code, names_in(tmp_path / "out")) == (1, {"a_deblurred.xmp"})
    assert str(other) in refused.stderr and "--overwrite" in refused.stderr
    assert deblur(*words, "--skip-existing").exit_code == 0
    assert other.read_text() == "mine"
    assert deblur(*words, "--overwrite").exit_code == 0
    assert other.read_text() == sidecar.read_text()
    beside = deblur("run", photo, "--sidecars", "--suffix", "", "--format", "png", "--overwrite")
    assert beside.stdout == f"{tmp_path / 'a.png'}\n"  # a.xmp is there already


def test_resume_knows_sidecars(tmp_path):
    photos = [make_photo(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    make_sidecars(tmp_path / "in" / "a.xmp", tmp_path / "in" / "b.xmp")
    words = (tmp_path / "in", "-o", tmp_path / "out", "--sidecars")
    stop_at("b_deblurred.png", *words)
    assert names_in(tmp_path / "out") == {".deblur-journal.jsonl", "a_deblurred.png", "a_deblurred.xmp"}
    (tmp_path / "out" / "a_deblurred.xmp").unlink()
    result = deblur("run", *words, "--resume")
    assert len(result.stdout.splitlines()) == 4  # a sidecar that is gone is made again
    assert names_in(tmp_path / "out") == {
        f"{path.stem}_deblurred{end}" for path in photos for end in (".png", ".xmp")
    }
    stop_at("b_deblurred.png", *words, "--overwrite")
    other = deblur("run", *words[:-1], "--resume")
    assert (other.exit_code, "sidecars on, now off" in other.stderr) == (2, True)


@pytest.mark.parametrize("words", [["--only-maps"], ["--strip-metadata"], ["-o", "-"]])
def test_sidecars_that_cannot_be_are_wrong_usage(tmp_path, words):
    result = deblur("run", make_photo(tmp_path / "a.png"), "--sidecars", *words)
    assert (result.exit_code, "--sidecars" in result.stderr) == (2, True)
    assert names_in(tmp_path) == {"a.png"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--quality", 80], "PNG and TIFF are lossless, so --quality has no effect"),
        (["--quality", 80, "--format", "tiff"], "TIFF is lossless, so --quality has no effect"),
        (["--quality", 80, "--format", "jpeg"], None),
        (["--raw-exposure", 1, "--raw-color-space", "p3"], "--raw-exposure and --raw-color-space: no effect"),
        (["--raw-exposure", 0], None),
        (["--sidecars"], "--sidecars: no effect"),
    ],
)
def test_options_without_effect_are_named_once(tmp_path, words, line):
    for name in ("a.png", "b.png", "c.tif", "d.jpg"):
        make_photo(tmp_path / name)
    for shown in (deblur("run", tmp_path, *words, "--dry-run"), deblur("run", tmp_path, *words)):
        assert shown.exit_code == 0
        lines = [text for text in shown.stderr.splitlines() if "no effect" in text]
        assert len(lines) == (line is not None)
        assert line is None or lines[0].startswith(f"warning: {line}")


def test_photos_named_by_the_shell_give_r_no_effect(tmp_path):
    photo = make_photo(tmp_path / "a.png")
    result = deblur("run", photo, "-r")
    assert (result.exit_code, result.stderr.count("--recursive: no effect")) == (0, 1)
    assert "no effect" not in deblur("run", photo, tmp_path, "-r", "--overwrite").stderr


def test_options_for_raw_have_an_effect_where_one_photo_is_raw(tmp_path):
    (make_photo(tmp_path / "a.png").with_name("b.dng")).write_bytes(make_dng(quarters()))
    result = deblur("run", tmp_path, "--raw-exposure", 1, "--dry-run")
    assert "no effect" not in result.stderr
