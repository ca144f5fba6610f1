"""`deblur run` on single photos: options, streams and exit codes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Deblurrer, deblur, install, make_photo, names_in, pixels_of, process_environment
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.cli import options
from deblur_cli.errors import UsageError
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.deblurrer import Request
from deblur_cli.restoration.tiles import Grid


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photo.png")


def test_result_lies_beside_the_photo_and_its_path_alone_is_on_stdout(photo):
    before = photo.read_bytes()
    result = deblur("run", photo)
    written = photo.with_name("photo_deblurred.png")
    assert (result.exit_code, result.stdout, photo.read_bytes()) == (0, f"{written}\n", before)
    np.testing.assert_array_equal(pixels_of(written), 255 - pixels_of(photo))
    assert result.stderr.startswith(f"{photo}: 50.0% blurred, 1 tile restored, ")
    assert result.stderr.endswith(" s (cpu, fp32, m2aenet-guided, epsilon 0.5)\n")


def test_photo_without_blur_comes_out_bit_identical_or_only_converted(tmp_path):
    photo = make_photo(tmp_path / "calm.webp")
    result = deblur("run", photo)
    assert (result.exit_code, "nothing blurred" in result.stderr) == (0, True)
    assert (tmp_path / "calm_deblurred.webp").read_bytes() == photo.read_bytes()
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
    words = ("-e", "0.25", "--tile", "512", "--overlap", "64", "--scales", "4,1", "--no-keep-sharp")
    deblur("run", photo, *words)
    assert Deblurrer.runs == [Request(0.25, keep_sharp=False)]
    assert (Deblurrer.made[0].tiling, Deblurrer.made[0].scales) == (Tiling(512, 64), (1, 4))


def test_notes_are_warnings_that_name_their_photo_and_quiet_runs_say_nothing(tmp_path):
    photo = make_photo(tmp_path / "odd.png")
    assert f"warning: {photo}: one tile was rerun in float32\n" in deblur("run", photo).stderr
    quiet = deblur("run", photo, "-q", "--overwrite")
    assert (quiet.stderr, quiet.stdout.count("\n")) == ("", 1)


def test_json_describes_each_photo_and_the_run(photo, tmp_path):
    result = deblur("run", tmp_path / "gone.jpg", photo, "--mask", "--json")
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
    assert result.stdout == f"{source} (20 x 40, <0.1 megapixels) -> {out}, {mask}\n"
    assert (result.exit_code, names_in(tmp_path)) == (0, {"turned.jpg"})


def test_dry_run_foresees_failures_sums_up_sizes_and_tells_the_time(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    make_photo(tmp_path / "large.png", (1100, 1000))
    make_photo(tmp_path / "small.png", (1000, 500))
    for name in ("there.png", "there_deblurred.png"):
        make_photo(tmp_path / name)
    words = ("run", tmp_path, "--dry-run", "--skip-existing", "--max-megapixels", "1")
    result = deblur(*words, "--json")
    *records, summary = (json.loads(line) for line in result.stdout.splitlines())
    status = {Path(record["input"]).stem: record["status"] for record in records}
    assert status == {"text": "failed", "large": "failed", "small": "planned", "there": "skipped"}
    counts = [summary[name] for name in ("megapixels", "planned", "skipped", "failed")]
    assert counts == [0.5, 1, 1, 2]
    assert 0 <= summary["seconds_least"] <= summary["seconds_most"]
    assert result.exit_code == summary["exit_code"] == 1
    *_, line = deblur(*words).stderr.splitlines()
    assert line.startswith("4 photos: 1 to deblur (0.5 megapixels), 1 to skip, 2 that will fail; ")
    assert (summary["weights"], summary["detector"]) == ("m2aenet-guided", None)
    *_, line = deblur("run", tmp_path / "text.jpg", "--dry-run").stderr.splitlines()
    assert line == "1 photo: 1 that will fail"


WRONG_OPTIONS = [
    (["-e", "1.01"], "--epsilon"),
    (["--epsilon", "nan"], "--epsilon"),
    (["--device", "tpu"], "'tpu'"),
    (["--device", "cuda:x"], "'cuda:x'"),
    (["--precision", "fp8"], "error: --precision must be auto, fp32, bf16 or fp16, not 'fp8'"),
    (["--data", "csv"], "error: --data must be npz, not 'csv'"),
    *((["--jobs", words], "--jobs") for words in ("0", "many", "65", "1.5", "")),
    (["--tile", "100"], "--tile"),
    (["--tile", "-512"], "--tile"),
    (["--tile", "1000000"], "--tile"),
    (["--tile", "128", "--overlap", "64"], "--overlap"),
    (["--overlap", "-16"], "--overlap"),
    (["--overlap", "40"], "--overlap"),
    (["--scales", "3"], "'3'"),
    (["--scales", "1,2,"], "--scales"),
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
    (["-o", "sharp.jpgg"], "for a folder, end its name with a slash: sharp.jpgg/"),
    (["-o", "sharp.psd"], "sharp.psd: deblur does not write this format"),
    (["-o", "photo.png/"], "photo.png is a file"),
    (["-o", "one.png", "--format", "jpeg"], "one.png"),
    (["-o", ""], "a name is empty"),
    ([""], "a name is empty"),
    (["--scales", "1,2,1"], "--scales names 1 twice"),
    (["--only-maps", "--format", "png"], "--format has no effect with --only-maps"),
    (["--only-maps", "--quality", "90"], "--quality has no effect with --only-maps"),
    (["--resume", "--overwrite"], "leave out one of them"),
    (["--findings", "gone.npz"], "gone.npz"),
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
    monkeypatch.setattr("deblur_cli.cli.run.steps.decode", lambda *_: pytest.fail("a photo was opened"))
    for more in ([], ["--dry-run"]):
        result = deblur("run", photo, *words, *more)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert named in result.stderr.lower()
    assert names_in(tmp_path) == {"photo.png"}


def test_an_output_that_cannot_be_is_wrong_usage(photo, tmp_path):
    (tmp_path / "taken").write_text("")
    second = make_photo(tmp_path / "second.png")
    for inputs, out, named in [
        *(([photo], tmp_path / name, "is a file") for name in ("taken", "taken/below", "taken/one.png")),
        *((inputs, tmp_path / "one.png", "folder") for inputs in ([photo, second], [tmp_path])),
    ]:
        result = deblur("run", *inputs, "-o", out)
        assert (result.exit_code, result.stderr.count("\n"), named in result.stderr) == (2, 1, True)
    assert names_in(tmp_path) == {"photo.png", "second.png", "taken"}


def test_an_output_that_cannot_be_written_is_told_before_any_photo_is_opened(photo):
    for out in ("/proc/x", "/proc/x.png"):  # where root may write, and cannot
        for words in ([], ["--dry-run"]):
            result = deblur("run", photo, "-o", out, *words)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
            assert "cannot write to /proc" in result.stderr and "No such file" not in result.stderr
    assert Deblurrer.made == []


def test_a_name_with_a_dot_that_is_plainly_a_folder_is_one(photo, tmp_path):
    (tmp_path / "there.v2").mkdir()
    second = make_photo(tmp_path / "second.png")
    for inputs, out in [
        ([photo], "there.v2"),
        ([photo], "trip.2026/"),
        ([photo], "named.jpg/"),
        ([photo, second], "trip.27"),
    ]:
        result = deblur("run", *inputs, "-o", f"{tmp_path}/{out}")
        assert result.exit_code == 0
        assert f"{tmp_path / out / 'photo_deblurred.png'}\n" in result.stdout


def test_a_photo_whose_own_folder_cannot_be_written_is_named_before_work_starts(photo, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    result = deblur("run", photo)
    assert (result.exit_code, result.stderr.count("\n"), "permission" in result.stderr) == (1, 1, True)
    assert Deblurrer.looked_at == []


def test_inputs_none_of_which_exists_are_wrong_usage(photo, tmp_path):
    gone = tmp_path / "gone"
    result = deblur("run", gone, tmp_path / "too", "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {gone} and 1 more: no such file or folder\n"
    assert deblur("run", gone, photo).exit_code == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    result = deblur("run", gone, empty, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {gone}: no such file or folder; {empty}: no pictures in this folder\n"
    assert deblur("run", empty, photo).exit_code == 1
    assert not (tmp_path / "out").exists()


@given(st.one_of(st.floats().map(repr), st.sampled_from(["0", "1", "1e-3", " .5", "-0", "half", ""])))
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
        tiling = Tiling(size, options.parse_overlap(str(overlap)))
    except UsageError:
        return
    Grid(700, 500, tiling.size or tiling.least, overlap)  # raises ValueError for what cannot be cut
    assert size is None or int(text) == size


@given(st.lists(st.sampled_from(SCALES), min_size=1, unique=True))
def test_scales_are_sorted(chosen):
    assert options.parse_scales(",".join(map(str, chosen))) == tuple(sorted(chosen))
    assert options.parse_scales("auto") == SCALES


def test_no_arguments_show_help_and_count_as_wrong_usage():
    result = deblur()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], {"torch", "numpy", "PIL", "rich"}),
        (["run", "--help"], {"torch", "numpy", "PIL", "rich"}),
        (["run", "photo.png", "--dry-run", "--skip-existing"], {"torch"}),
    ],
    ids=["help", "help of run", "dry run"],
)
def test_what_only_tells_something_loads_nothing_heavy(photo, words, heavy):
    make_photo(photo.with_name("photo_deblurred.png"))
    code = f"""
import sys; from deblur_cli.cli.app import app
try: app({words})
except SystemExit as end: assert end.code == 0
assert not {heavy} & set(sys.modules), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=photo.parent, env=process_environment())
