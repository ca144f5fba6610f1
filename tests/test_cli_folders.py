"""`deblur run` on folders: which photos are taken, where results go, and which names are in the way."""

import errno
import io
import os
import tempfile
from pathlib import Path

import pytest
from cli_helpers import deblur, errors_in, install, make_photo, names_in
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.cli.run.collect import collect
from deblur_cli.cli.run.options import Existing, RunOptions
from deblur_cli.cli.run.plan import make_plan
from deblur_cli.errors import UsageError


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


def test_folder_gives_its_pictures_and_with_r_those_below(tmp_path):
    tree = tmp_path / "in"
    for name in ("b.png", "a.jpg", "deep/c.png", "deep/er/d.png", ".hidden.png", ".cache/e.png"):
        make_photo(tree / name)
    (tree / "notes.txt").write_text("")
    flat, deep = deblur("run", tree, "-o", tmp_path / "flat"), deblur("run", tree, "-ro", tmp_path / "deep")
    assert flat.exit_code == deep.exit_code == 0
    expected = [tmp_path / "flat" / name for name in ("a_deblurred.jpg", "b_deblurred.png")]
    assert flat.stdout.splitlines() == [str(path) for path in expected]
    assert names_in(tmp_path / "deep") == {
        *("a_deblurred.jpg", "b_deblurred.png"),
        *("deep/c_deblurred.png", "deep/er/d_deblurred.png"),
    }


def test_folder_without_pictures_says_how_to_look_deeper(tmp_path):
    make_photo(tmp_path / "below" / "a.png")
    result = deblur("run", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no pictures" in result.stderr and "-r" in result.stderr


def test_results_of_a_former_run_are_not_deblurred_again(tmp_path):
    for name in ("a.png", "halloween_mask.png", "holiday_fine.png"):
        make_photo(tmp_path / name)
    words = ("--mask", "--trajectory", "--suffix", "_fine")
    first, again = deblur("run", tmp_path, *words), deblur("run", tmp_path, *words, "--overwrite")
    assert len(first.stdout.splitlines()) == 9
    assert again.stdout == first.stdout


def test_the_folder_of_results_is_not_read_and_photos_in_it_are_named(tmp_path):
    make_photo(tmp_path / "a.png")
    out = tmp_path / "out"
    words = ("run", "-r", tmp_path, "-o", out, "--suffix")
    deblur(*words, "_1")
    (tmp_path / "link").symlink_to(out, target_is_directory=True)
    make_photo(out / "b_1.png")
    result = deblur(*words, "_2")
    assert result.stdout == f"{out / 'a_2.png'}\n"
    assert names_in(out) == {"b_1.png", "a_1.png", "a_2.png"}
    (line,) = (line for line in result.stderr.splitlines() if "ignored" in line)
    assert f"{tmp_path / 'link' / 'a_1.png'} and 1 more" in line and "-o" in line


def test_pictures_drawn_by_a_former_run_elsewhere_are_not_deblurred(tmp_path):
    make_photo(tmp_path / "a.png")
    deblur("run", tmp_path / "a.png", "--mask", "--trajectory", "-o", tmp_path / "out")
    again = deblur("run", "-r", tmp_path, "--dry-run", "-o", tmp_path / "more")
    assert [line.split(" (")[0] for line in again.stdout.splitlines()] == [str(tmp_path / "a.png")]


def test_links_in_circles_end_and_a_photo_named_twice_is_done_once(tmp_path):
    photo = make_photo(tmp_path / "sub" / "a.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    result = deblur("run", "-r", tmp_path, photo, tmp_path / "sub")
    assert result.stdout == f"{tmp_path / 'sub' / 'a_deblurred.png'}\n"
    assert result.stderr.count("error: ") == 1
    assert f"error: {tmp_path / 'broken.png'}: " in result.stderr


def test_results_that_would_have_one_name_get_the_whole_names_of_their_photos(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        make_photo(tmp_path / name)
    result = deblur("run", tmp_path, "--format", "webp", "-o", tmp_path / "out")
    assert result.exit_code == 0
    names = ("a.jpg_deblurred.webp", "a.png_deblurred.webp", "b_deblurred.webp")
    assert result.stdout.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert result.stderr.count("another photo has the same name") == 2


def test_one_original_in_the_way_does_not_hold_up_the_rest(tmp_path):
    photo, original = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "a_deblurred.png", seed=1)
    other, before = make_photo(tmp_path / "b.png"), original.read_bytes()
    result = deblur("run", photo, original, other, "--overwrite")
    assert result.exit_code == 1
    assert original.read_bytes() == before
    assert str(tmp_path / "b_deblurred.png") in result.stdout.splitlines()


def test_photos_of_a_stereo_camera_stay_jpeg(tmp_path):
    make_photo(tmp_path / "a.jpg").rename(tmp_path / "a.mpo")
    assert deblur("run", tmp_path).stdout == f"{tmp_path / 'a_deblurred.jpg'}\n"


@pytest.mark.parametrize("kind", ["AVIF", "JPEG"])
def test_a_dry_run_names_damaged_files_and_goes_on(tmp_path, kind):
    make_photo(tmp_path / "b.png")
    content = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(content, kind)
    # an AVIF that does not say where its picture is; a JPEG whose header is whole and whose picture is not
    damaged = content.getvalue().replace(b"iloc", b"jloc")
    (tmp_path / f"a.{kind.lower()}").write_bytes(damaged if kind == "AVIF" else damaged[:-900])
    result = deblur("run", tmp_path, "--dry-run")
    assert f"{tmp_path / 'b.png'} (48 x 32" in result.stdout
    assert result.exit_code == 1
    assert "bug" not in result.stderr
    (line,) = errors_in(result)
    assert f"a.{kind.lower()}" in line


def test_a_name_too_long_for_its_result_costs_that_photo_alone(tmp_path):
    long = make_photo(tmp_path / ("x" * 246 + ".png"))
    good = make_photo(tmp_path / "good.png")
    result = deblur("run", long, good)
    assert (result.exit_code, result.stdout) == (1, f"{tmp_path / 'good_deblurred.png'}\n")
    (line,) = errors_in(result)
    assert "name is too long; use a shorter --suffix, or run this photo alone with -o FILE" in line
    assert errors_in(deblur("run", long, "--dry-run")) == errors_in(deblur("run", long)) == [line]
    (new,) = errors_in(deblur("run", long, "-o", tmp_path / "new" / "folder", "--dry-run"))
    assert "name is too long" in new
    assert deblur("run", long, "--suffix", "_r").exit_code == 0
    assert deblur("run", long, "-o", tmp_path / "short.png").exit_code == 0
    (line,) = errors_in(deblur("run", long, "--only-maps"))
    assert "name is too long; give the photo a shorter name" in line


def test_links_that_lead_to_themselves_are_named_like_any_other_problem(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    good = make_photo(tmp_path / "good.png")
    own_result = make_photo(tmp_path / "own.png").with_name("own_deblurred.png")
    own_result.symlink_to(own_result)
    result = deblur("run", loop / "x.png", loop, good, tmp_path / "own.png")
    assert (result.exit_code, result.stdout) == (1, f"{tmp_path / 'good_deblurred.png'}\n")
    assert len(errors_in(result)) == 3
    assert "bug" not in result.stderr
    for out in (loop, loop / "below"):
        refused = deblur("run", good, "-o", out)
        assert refused.exit_code in (1, 2)
        assert refused.stderr.count("\n") == 1 and "bug" not in refused.stderr


def test_what_may_not_be_entered_is_named_and_the_rest_is_done(tmp_path, monkeypatch):
    for name in ("closed/a.png", "link.png", "open/b.png"):
        make_photo(tmp_path / name)
    list_folder, is_dir = Path.iterdir, Path.is_dir

    def refuse(ask, name):
        def asked(path):
            if path.name == name:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return ask(path)

        return asked

    monkeypatch.setattr(Path, "iterdir", refuse(list_folder, "closed"))
    monkeypatch.setattr(Path, "is_dir", refuse(is_dir, "link.png"))
    result = deblur("run", "-r", tmp_path, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, f"{tmp_path / 'out' / 'open' / 'b_deblurred.png'}\n")
    assert sorted(errors_in(result)) == [
        f"error: {tmp_path / 'closed'}: cannot read this folder: Permission denied",
        f"error: {tmp_path / 'link.png'}: cannot be reached: Permission denied",
    ]


def test_kinds_that_are_not_read_are_counted_when_a_folder_is_walked(tmp_path):
    for name in ("x.EXR", "y.psd", "z.psd"):
        (tmp_path / name).touch()
    alone = deblur("run", tmp_path)
    assert alone.exit_code == 2
    assert "only .exr, .psd" in alone.stderr
    assert "use -r" not in alone.stderr  # nothing lies deeper
    make_photo(tmp_path / "a.png")
    together = deblur("run", tmp_path)
    assert together.exit_code == 0
    assert "ignored 3 files" in together.stderr and "(.exr, .psd)" in together.stderr


def test_an_original_is_never_written_not_even_with_overwrite(tmp_path):
    photo = make_photo(tmp_path / "a.png")
    link = tmp_path / "links"
    link.symlink_to(tmp_path, target_is_directory=True)
    before = photo.read_bytes()
    for words in (["--suffix", ""], ["-o", photo], ["-o", link, "--suffix", ""]):
        result = deblur("run", photo, "--overwrite", *words)
        assert (result.exit_code, "original" in result.stderr) == (2, True)
    assert photo.read_bytes() == before


def test_names_of_other_scripts_and_of_the_greatest_length_are_done(tmp_path):
    longest = "x" * (255 - len("_deblurred.png"))
    for name in ("Ñandú 写真 📷", longest):
        make_photo(tmp_path / f"{name}.png")
    result = deblur("run", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert names_in(tmp_path / "out") == {f"{name}_deblurred.png" for name in ("Ñandú 写真 📷", longest)}


def test_file_names_cannot_break_lines_or_steer_the_terminal(tmp_path):
    for name in ("bad\n\x1b[2J.png", "[red]bold.png"):
        (tmp_path / name).write_text("no picture")
    lines = deblur("run", tmp_path).stderr.splitlines()
    assert len(lines) == 3 and "\x1b" not in "".join(lines)
    assert any("[red]bold.png" in line for line in lines)


def test_file_name_that_is_no_text_is_given_back_byte_for_byte(tmp_path):
    photo = make_photo(tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    result = deblur("run", photo)
    assert result.exit_code == 0
    assert result.stdout_bytes == os.fsencode(tmp_path) + b"/caf\xe9_deblurred.png\n"


NAMES = st.lists(
    st.tuples(
        st.sampled_from(["", "x/", "x/y/"]),
        st.sampled_from(["a", "b", "a_deblurred", "a_mask", "b_1", "b_trajectory"]),
        st.sampled_from([".jpg", ".png", ".JPG", ".bmp"]),
    ).map("".join),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(
    names=NAMES,
    suffix=st.sampled_from(["_deblurred", "", "_1"]),
    form=st.sampled_from([None, "PNG", "JPEG"]),
    overlays=st.booleans(),
    elsewhere=st.booleans(),
)
def test_planned_results_are_unique_and_never_an_original(names, suffix, form, overlays, elsewhere):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        out = Path(folder) / "out" if elsewhere else None
        where = {"inputs": [root], "recursive": True, "output": out, "suffix": suffix, "format": form}
        options = RunOptions(**where, mask=overlays, trajectory=overlays, tile=None, actor_cpus=None)
        try:
            found = collect(options)
            plan = make_plan(found, options, Existing.replace)
        except UsageError:
            return
        results = [path for job in plan.jobs for path in job.results.values()]
        assert len(results) == len(set(results))
        assert not {photo.path for photo in found.photos} & set(results)
        named = {problem.path for problem in plan.problems}
        assert [job.source for job in plan.jobs] == [p.path for p in found.photos if p.path not in named]
        assert all(job.main.suffix.lower() in (".jpg", ".png") for job in plan.jobs)
