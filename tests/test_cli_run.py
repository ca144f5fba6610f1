"""`deblur run` on single photos: options, streams and exit codes."""

import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Deblurrer, deblur, install, make_photo, pixels_of, process_environment
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.cli import options
from deblur_cli.errors import UsageError
from deblur_cli.restoration import SCALES, Request, Tiling


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photo.png")


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_result_lies_beside_the_photo_and_its_path_alone_is_on_stdout(photo):
    before = photo.read_bytes()
    result = deblur("run", photo)
    written = photo.with_name("photo_deblurred.png")
    assert result.exit_code == 0
    assert result.stdout == f"{written}\n"
    assert photo.read_bytes() == before
    np.testing.assert_array_equal(pixels_of(written), 255 - pixels_of(photo))


def test_summary_tells_what_was_done(photo):
    stderr = deblur("run", photo).stderr
    assert stderr.startswith(f"{photo}: 50.0% blurred, 1 tile restored, ")
    assert stderr.endswith(" s (cpu, fp32, m2aenet-guided, epsilon 0.5)\n")


def test_quiet_says_nothing_but_results(photo):
    result = deblur("run", photo, "-q")
    assert (result.stderr, result.stdout.count("\n")) == ("", 1)


def test_photo_without_blur_comes_out_bit_identical(tmp_path):
    photo = make_photo(tmp_path / "calm.jpg")
    result = deblur("run", photo)
    assert result.exit_code == 0
    assert (tmp_path / "calm_deblurred.jpg").read_bytes() == photo.read_bytes()
    assert "nothing blurred" in result.stderr


def test_photo_without_blur_is_converted_if_another_format_is_asked_for(tmp_path):
    photo = make_photo(tmp_path / "calm.webp")
    deblur("run", photo, "--format", "png")
    with Image.open(tmp_path / "calm_deblurred.png") as image:
        assert image.format == "PNG"
    np.testing.assert_array_equal(pixels_of(tmp_path / "calm_deblurred.png"), pixels_of(photo))


def test_overlays_are_written_at_full_size_beside_the_result(photo, tmp_path):
    result = deblur("run", photo, "--mask", "--trajectory", "-o", tmp_path / "out")
    expected = [tmp_path / "out" / f"photo_{what}.png" for what in ("deblurred", "mask", "trajectory")]
    assert result.stdout.splitlines() == [str(path) for path in expected]
    mask, trajectory = pixels_of(expected[1]), pixels_of(expected[2])
    assert mask.shape == trajectory.shape == pixels_of(photo).shape
    assert not np.array_equal(mask, trajectory)


def test_output_may_be_one_file(photo, tmp_path):
    out = tmp_path / "new" / "better.jpg"
    assert deblur("run", photo, "-o", out).stdout == f"{out}\n"
    with Image.open(out) as image:
        assert (image.format, image.size) == ("JPEG", (48, 32))


def test_quality_reaches_the_encoder(tmp_path):
    photo = make_photo(tmp_path / "photo.jpg", (200, 200))
    deblur("run", photo, "--quality", "95", "--suffix", "_fine")
    deblur("run", photo, "--quality", "20", "--suffix", "_coarse")
    assert (tmp_path / "photo_coarse.jpg").stat().st_size < (tmp_path / "photo_fine.jpg").stat().st_size / 2


def test_options_reach_the_network(photo):
    deblur("run", photo, "-e", "0.25", "--tile", "512", "--overlap", "64", "--no-keep-sharp")
    assert Deblurrer.runs == [Request(0.25, keep_sharp=False)]
    assert Deblurrer.made[0].tiling == Tiling(512, 64)


def test_notes_are_shown_as_warnings_with_the_photo_they_are_about(tmp_path):
    photo = make_photo(tmp_path / "odd.png")
    assert f"warning: {photo}: one tile was rerun in float32\n" in deblur("run", photo).stderr
    assert "rerun" not in deblur("run", photo, "-q", "--overwrite").stderr


def test_json_describes_each_photo_and_the_run(photo, tmp_path):
    result = deblur("run", photo, tmp_path / "gone.jpg", "--mask", "--json")
    failed, done, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert (failed["status"], failed["input"]) == ("failed", str(tmp_path / "gone.jpg"))
    assert failed["error"] == "no such file or folder"
    assert failed.keys() == done.keys()
    assert done["output"] == str(photo.with_name("photo_deblurred.png"))
    assert done["mask"] == str(photo.with_name("photo_mask.png"))
    assert (done["width"], done["height"], done["blurred_share"], done["epsilon"]) == (48, 32, 0.5, 0.5)
    assert done["scales"] == {"1": 0.5, "2": 0, "4": 0, "8": 0}
    assert (done["tiles"], done["tiles_restored"], done["tiles_kept"], done["changed"]) == (4, 1, 0, True)
    assert (done["device"], done["precision"], done["weights"]) == ("cpu", "fp32", "m2aenet-guided")
    assert (done["weights_sha256"], done["notes"], done["error"]) == ("ab" * 32, [], None)
    assert (summary["photos"], summary["restored"], summary["failed"]) == (2, 1, 1)
    assert summary["exit_code"] == result.exit_code == 1


def test_dry_run_tells_names_and_upright_sizes_and_writes_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    result = deblur("run", tmp_path, "--dry-run", "--mask")
    source, out, mask = (tmp_path / f"turned{end}" for end in (".jpg", "_deblurred.jpg", "_mask.png"))
    assert result.stdout == f"{source} (20 x 40, 0.0 megapixels) -> {out}, {mask}\n"
    assert (result.exit_code, names_in(tmp_path)) == (0, {"turned.jpg"})


def test_dry_run_foresees_failures(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    make_photo(tmp_path / "large.png", (1100, 1000))
    make_photo(tmp_path / "there.png")
    make_photo(tmp_path / "there_deblurred.png")
    result = deblur("run", tmp_path, "--dry-run", "--json", "--max-megapixels", "1")
    *records, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert {(Path(r["input"]).name, r["status"]) for r in records} == {
        ("text.jpg", "failed"),
        ("large.png", "failed"),
        ("there.png", "failed"),
    }
    assert (summary["planned"], summary["failed"], summary["seconds_most"]) == (0, 3, None)
    assert result.exit_code == summary["exit_code"] == 1


def test_dry_run_sums_up_sizes_and_tells_the_time(tmp_path):
    for name, size in (("a.png", (1500, 1000)), ("b.png", (1000, 500)), ("there.png", (9, 9))):
        make_photo(tmp_path / name, size)
    make_photo(tmp_path / "there_deblurred.png")
    words = ("run", tmp_path, "--dry-run", "--skip-existing")
    *_, line = deblur(*words).stderr.splitlines()
    assert line.startswith("3 photos: 2 to deblur (2.0 megapixels), 1 to skip; ")
    *_, summary = (json.loads(line) for line in deblur(*words, "--json").stdout.splitlines())
    assert 0 <= summary["seconds_least"] <= summary["seconds_most"]
    assert (summary["megapixels"], summary["planned"], summary["skipped"]) == (2, 2, 1)


WRONG_OPTIONS = [
    (["-e", "1.01"], "--epsilon"),
    (["-e", "-0.1"], "--epsilon"),
    (["--epsilon", "nan"], "--epsilon"),
    (["--epsilon", "half"], "'half'"),
    (["--epsilon", "0,5"], "'0,5'"),
    (["--device", "tpu"], "'tpu'"),
    (["--device", "cuda:x"], "'cuda:x'"),
    (["--precision", "fp8"], "'fp8'"),
    (["--tile", "100"], "--tile"),
    (["--tile", "0"], "--tile"),
    (["--tile", "-512"], "--tile"),
    (["--tile", "many"], "--tile"),
    (["--tile", "1000000"], "--tile"),
    (["--tile", "128", "--overlap", "64"], "--overlap"),
    (["--overlap", "-16"], "--overlap"),
    (["--overlap", "40"], "--overlap"),
    (["--scales", "3"], "'3'"),
    (["--scales", "1,2,"], "--scales"),
    (["--scales", ""], "--scales"),
    (["--format", "gif"], "--format"),
    (["--quality", "0"], "--quality"),
    (["--quality", "best"], "--quality"),
    (["--suffix", "a/b"], "--suffix"),
    (["--suffix", ""], "original"),
    (["--max-megapixels", "0"], "--max-megapixels"),
    (["--max-megapixels", "nan"], "--max-megapixels"),
    (["--overwrite", "--skip-existing"], "--skip-existing"),
    (["-v", "-q"], "--quiet"),
    (["--no-such-option"], "--no-such-option"),
    (["-o", "animation.gif"], "animation.gif"),
    (["-o", "one.png", "--format", "jpeg"], "one.png"),
]


@pytest.mark.parametrize(("words", "named"), WRONG_OPTIONS, ids=" ".join)
def test_wrong_usage_is_one_line_and_touches_nothing(photo, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    result = deblur("run", photo, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert named in result.stderr
    assert names_in(tmp_path) == {"photo.png"}
    assert Deblurrer.looked_at == []


@pytest.mark.parametrize(
    ("words", "named"), [(["--device", "cuda:7"], "cuda"), (["--weights", "best-ever"], "best-ever")]
)
def test_missing_device_or_weights_fail_before_any_photo_is_opened(
    photo, tmp_path, monkeypatch, words, named
):
    monkeypatch.setattr("deblur_cli.cli.run.batch.decode", lambda *_: pytest.fail("a photo was opened"))
    result = deblur("run", photo, *words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert named in result.stderr.lower()
    assert names_in(tmp_path) == {"photo.png"}


def test_output_folder_that_is_a_file_is_wrong_usage(photo, tmp_path):
    (tmp_path / "taken").write_text("")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below", tmp_path / "taken" / "one.png"):
        result = deblur("run", photo, "-o", out)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "is a file" in result.stderr


def test_output_file_for_several_photos_is_wrong_usage(photo, tmp_path):
    for inputs in ([photo, make_photo(tmp_path / "second.png")], [tmp_path]):
        result = deblur("run", *inputs, "-o", tmp_path / "one.png")
        assert result.exit_code == 2
        assert "folder" in result.stderr
    assert names_in(tmp_path) == {"photo.png", "second.png"}


def test_folder_without_write_permission_is_named_before_work_starts(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    for words in ([], ["-o", tmp_path / "out"]):
        result = deblur("run", photo, *words)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "permission" in result.stderr
    assert Deblurrer.looked_at == []


@given(
    st.one_of(st.floats().map(repr), st.text(max_size=6), st.sampled_from(["0", "1", "1e-3", " .5", "-0"]))
)
def test_epsilon_is_taken_exactly_if_it_is_a_number_from_0_to_1(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value <= 1:
        assert options.parse_epsilon(text) == value
    else:
        with pytest.raises(UsageError):
            options.parse_epsilon(text)


@given(st.one_of(st.integers(-100, 20000).map(str), st.text(max_size=5)), st.integers(-10, 80))
def test_tiles_that_pass_the_check_can_be_cut(text, overlap):
    try:
        size = options.parse_tile(text)
        overlap = options.parse_overlap(str(overlap))
        options.check_tiling(size, overlap)
    except UsageError:
        return
    Tiling(size, overlap)  # raises what the network cannot use
    assert size is None or int(text) == size


@given(st.lists(st.sampled_from(SCALES), min_size=1))
def test_scales_are_sorted_and_taken_once(chosen):
    assert options.parse_scales(",".join(map(str, chosen))) == tuple(sorted(set(chosen)))


def test_all_scales_that_there_are_can_be_chosen(photo):
    assert options.parse_scales("auto") == SCALES
    deblur("run", photo, "--scales", "4,1")
    assert Deblurrer.made[0].scales == (1, 4)


@given(st.text(alphabet="0123456789,- a", max_size=8))
def test_scales_that_pass_the_check_are_known(text):
    try:
        assert set(options.parse_scales(text)) <= set(SCALES)
    except UsageError as error:
        assert "--scales must be auto or some of 1, 2, 4, 8" in str(error)


def test_no_arguments_show_help_and_count_as_wrong_usage():
    result = deblur()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from deblur_cli.cli.app import app\n"
        "for words in (['--help'], ['run', '--help']):\n"
        "    try: app(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=process_environment()
    )
    assert done.stderr == "set()\n"
    assert "--epsilon" in done.stdout


def test_help_answers_at_once():
    def seconds() -> float:
        before = processor_seconds()
        subprocess.run(
            [sys.executable, "-m", "deblur_cli", "--help"],
            capture_output=True,
            check=True,
            env=process_environment(),
        )
        return processor_seconds() - before

    # The promise is 0.3 s; processor time, which other programs cannot stretch, with some room.
    assert min(seconds() for _ in range(3)) < 0.5


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def test_dry_run_with_nothing_to_do_needs_no_torch(photo):
    make_photo(photo.with_name("photo_deblurred.png"))
    code = (
        "import sys; from deblur_cli.cli.app import app\n"
        f"try: app(['run', {str(photo)!r}, '--dry-run', '--skip-existing'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=process_environment())
