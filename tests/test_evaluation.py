"""Evaluation: every layout is read, results are those of the tool, nothing is done twice."""

import copy
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of
from PIL import Image

from deblur_cli.errors import EvaluationError, TrainingError
from deblur_cli.evaluation import loop
from deblur_cli.evaluation.cases import find_cases
from deblur_cli.evaluation.measures import MEASURES
from deblur_cli.evaluation.summary import LENGTHS, estimate, labels, summarize, table
from deblur_cli.metrics import weighted_psnr
from deblur_cli.nets import accelerate
from deblur_cli.nets.macs import count_detection, count_restoration, count_spared
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import Tiling
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.train.samples import Sample, prepare_folder, write_sample
from deblur_cli.train.scores import score
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.synthetic import fixed_sample
from deblur_cli.weights import LoadedWeights

SIZE = (72, 100)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (SIZE[0] // 4, SIZE[1] // 4, 3), np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


def dataset(folder, count=2, masks=True, suffix=".png", names=("blur", "sharp")):
    mask = np.zeros(SIZE, np.uint8)
    mask[16:56, 24:80] = 255
    for number in range(count):
        save(folder / names[0] / f"{number}{suffix}", picture(number))
        save(folder / names[1] / f"{number}.png", picture(number + 50))
        if masks:
            save(folder / "mask" / f"{number}.png", mask)
    return folder


def evaluated(
    folder, results=None, epsilons=(0.5,), whole=False, keep_sharp=True, network=None, scales=(1, 2, 4, 8)
):
    entrant = network if isinstance(network, LoadedWeights) else weights_of(network or lively(pooling=64))
    contestant = loop.enter(
        entrant,
        epsilons,
        whole=whole,
        keep_sharp=keep_sharp,
        tiling=Tiling(128, 32),
        scales=scales,
        device="cpu",
        precision="fp32",
    )
    return loop.evaluate(find_cases(folder), [contestant], results or loop.Results(None))


@pytest.mark.parametrize("make", [lambda: lively(pooling=64), lively_lmd_vit], ids=["m2aenet", "lmd_vit"])
def test_tiled_is_what_the_tool_makes_of_the_photo(tmp_path, make):
    network = make()
    found = evaluated(dataset(tmp_path, 1), epsilons=(0.05, 0.1), network=network)
    photo = Photo(pixels=picture(0), source=tmp_path, format="PNG")
    sharp = torch.from_numpy(picture(50)).permute(2, 0, 1)[None] / 255
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., 16:56, 24:80] = 1
    for epsilon in (0.05, 0.1):
        tool = Deblurrer(weights_of(network), "cpu", "fp32", Tiling(128, 32))
        expected = tool.restore(photo, tool.detect(photo), Request(epsilon))
        image = torch.from_numpy(expected.photo.pixels).permute(2, 0, 1)[None] / 255
        (row,) = found.rows["test", str(epsilon)]
        assert row["psnr_w"] == pytest.approx(float(weighted_psnr(image, sharp, mask)))
        assert row["marked_share"] == pytest.approx(expected.blurred_share)


def test_whole_is_the_bare_output_of_the_network(tmp_path):
    network = lively(pooling=64)
    found = evaluated(dataset(tmp_path, 1), whole=True, keep_sharp=False, network=network)
    blurred, sharp = (torch.from_numpy(picture(seed)).permute(2, 0, 1)[None] / 255 for seed in (0, 50))
    with torch.no_grad():
        image = network(blurred).image.clamp(0, 1)
    (row,) = found.rows["test", "0.5"]
    assert row["psnr"] == pytest.approx(-10 * math.log10((image - sharp).square().mean()), abs=1e-4)
    assert row["gain_psnr"] == pytest.approx(row["psnr"] - row["input_psnr"])
    assert 0 < row["relative_macs"] < 1


RESTORERS = {
    "m2aenet": lambda: lively(pooling=64),
    "told": lambda: lively(encoder=(1, 1, 2), decoder=(1, 1, 1), pooling=64, stem=2, guided=True),
    "nafnet": lambda: lively("nafnet", pooling=64),
    "lmd_vit": lively_lmd_vit,
}


@pytest.mark.parametrize("kind", RESTORERS)
def test_behind_a_detector_whole_and_tiled_agree_on_what_is_marked(tmp_path, kind):
    folder = dataset(tmp_path, 1)
    network = guided_by(lively_detector(pooling=48, seed=5), RESTORERS[kind]())
    (whole,) = evaluated(folder, None, (0.7,), whole=True, network=network).rows["test", "0.7"]
    (tiled,) = evaluated(folder, None, (0.7,), whole=False, network=network).rows["test", "0.7"]
    assert 0.1 < whole["marked_share"] < 0.9
    for name in ("marked_share", "mask_iou", "wrongly_marked"):
        assert tiled[name] == pytest.approx(whole[name], abs=1e-6)
    assert whole["changed_outside"] == tiled["changed_outside"] == 0
    assert abs(whole["psnr"] - whole["input_psnr"]) > 1e-3
    assert tiled["psnr"] == pytest.approx(whole["psnr"], abs=0.02)
    assert whole["relative_macs"] > 0 and math.isnan(tiled["relative_macs"]) == (kind == "lmd_vit")


def test_a_detectors_work_counts_everywhere_and_its_restorers_where_something_is_restored(tmp_path):
    folder, network = dataset(tmp_path, 1), guided_by(lively_detector(), lively(pooling=64))
    detector = network.network.detector
    restorer = accelerate(copy.deepcopy(network.network.restorer))  # as the tool runs it
    found = evaluated(folder, None, (0.0, 1.0), whole=False, network=network).rows
    (everything,), (nothing,) = found["test", "0.0"], found["test", "1.0"]
    looking = count_detection(detector, *SIZE)
    assert nothing["gmacs"] == pytest.approx(looking / 1e9)
    dense, cells = count_restoration(restorer, *SIZE), (-(-SIZE[0] // 8), -(-SIZE[1] // 8))
    restoring = dense - count_spared(restorer, *SIZE, torch.ones(1, 1, *cells))  # the padding
    assert everything["gmacs"] == pytest.approx((looking + restoring) / 1e9)
    assert everything["relative_macs"] == pytest.approx((looking + restoring) / dense)


def test_results_at_other_scales_are_worked_out_anew(tmp_path):
    folder, results = dataset(tmp_path / "set", 1), loop.Results(None)
    assert evaluated(folder, results, scales=(1,)).reused == 0
    assert evaluated(folder, results, scales=(1, 2)).reused == 0
    assert evaluated(folder, results, scales=(1,)).reused == 1
    assert evaluated(folder, results, scales=(1,), whole=True).reused == 0


def test_results_with_another_detector_are_worked_out_anew(tmp_path):
    folder, results = dataset(tmp_path / "set", 1), loop.Results(None)
    restorer, detector = lively(pooling=64), lively_detector()
    assert evaluated(folder, results, network=weights_of(restorer)).reused == 0
    assert evaluated(folder, results, network=guided_by(detector, restorer)).reused == 0
    assert evaluated(folder, results, network=guided_by(detector, restorer)).reused == 1
    assert len(results.rows) == 2


def test_whole_lmd_vit_prunes_at_each_epsilon(tmp_path):
    network, epsilons = lively_lmd_vit(), (0.2, 0.5, 0.8)
    found = evaluated(dataset(tmp_path, 1), epsilons=epsilons, whole=True, keep_sharp=False, network=network)
    blurred, sharp = (torch.from_numpy(picture(seed)).permute(2, 0, 1)[None] / 255 for seed in (0, 50))
    work = []
    for epsilon in epsilons:
        with torch.no_grad():
            result = network(blurred, epsilon)
        (row,) = found.rows["test", str(epsilon)]
        image = result.image.clamp(0, 1)
        assert row["psnr"] == pytest.approx(-10 * math.log10((image - sharp).square().mean()), abs=1e-4)
        work.append(row["relative_macs"])
    assert 1 > work[0] > work[1] > work[2] > 0


def test_whole_with_sharp_pixels_kept_changes_nothing_where_nothing_is_found(tmp_path):
    found = evaluated(dataset(tmp_path, 1), epsilons=(1.0,), whole=True)
    (row,) = found.rows["test", "1.0"]
    assert row["psnr"] == row["input_psnr"]
    assert row["marked_share"] == 0
    assert math.isnan(row["mask_precision"])
    assert row["mask_recall"] == 0


@pytest.mark.parametrize("keep_sharp", [True, False])
def test_what_is_marked_and_changed_where_nothing_moved(tmp_path, keep_sharp):
    network = lively(pooling=64)
    found = evaluated(dataset(tmp_path, 1), None, (0.5, 1.0), True, keep_sharp, network)
    (nothing,), (row,) = found.rows["test", "1.0"], found.rows["test", "0.5"]
    assert (nothing["changed_outside"] == 0) == keep_sharp  # with epsilon 1 all pixels are off the mask
    assert nothing["wrongly_marked"] == 0
    if keep_sharp:
        return
    # the bare output is what training scores too, there by code of its own
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., 16:56, 24:80] = 1
    blurred, sharp = (torch.from_numpy(picture(seed)).permute(2, 0, 1)[None] / 255 for seed in (0, 50))
    still = torch.zeros(1, 2, *SIZE)
    expected = asdict(score(network, iter([Sample(blurred, sharp, mask, still, still, measured=True)])))
    names = {"blurred_psnr_w": "input_psnr_w", "pictures": None, "endpoint_error": None}
    names |= dict.fromkeys(("sharp_marked", "gain_short", "gain_medium", "gain_long"))  # of training alone
    for name, value in expected.items():
        if (measure := names.get(name, name)) is not None:
            assert row[measure] == pytest.approx(value, abs=1e-4, nan_ok=True), name


def test_a_network_without_a_mask_is_run_once_and_has_no_mask_measures(tmp_path):
    nafnet = lively("nafnet", pooling=64)
    found = evaluated(dataset(tmp_path, 1), epsilons=(0.3, 0.6), whole=True, network=nafnet)
    assert list(found.rows) == [("test", "")]
    assert math.isnan(found.rows["test", ""][0]["mask_iou"])
    assert found.rows["test", ""][0]["relative_macs"] == 1


@pytest.mark.parametrize(
    ("names", "suffix", "masks"),
    [(("blur", "sharp"), ".png", True), (("input", "target"), ".jpg", False), (("blur", "gt"), ".tif", True)],
)
def test_pairs_in_folders_of_any_common_name_and_format_are_found(tmp_path, names, suffix, masks):
    folder = dataset(tmp_path / "[a] set*", 12, masks=masks, suffix=suffix, names=names)
    cases = find_cases(folder, "pairs")
    assert [case.name for case in cases] == [f"{names[0]}/{number}{suffix}" for number in range(12)]
    truth = cases[3].read()
    assert np.array_equal(truth.sharp.permute(1, 2, 0).numpy(), picture(53))
    assert (truth.mask is not None) == masks
    assert truth.start is None


def test_the_layout_is_recognised(tmp_path):
    for half in ("blur", "sharp"):
        save(tmp_path / "relo" / f"00_{half}.png", picture(0))
    np.save(tmp_path / "relo" / "00.npy", np.ones(SIZE, bool))
    (case,) = find_cases(tmp_path / "relo")
    assert case.read().mask.all()
    (case,) = find_cases(dataset(tmp_path / "gopro" / "scene", 1, masks=False))
    assert case.read().mask is None  # not all ones: nobody marked anything
    with pytest.raises(EvaluationError, match="expected are reloblur"):
        find_cases(tmp_path / "gopro", "reloblur")
    with pytest.raises(EvaluationError, match="no folder"):
        find_cases(tmp_path / "none")


def test_what_is_there_is_not_worked_out_again(tmp_path, monkeypatch):
    folder, path = dataset(tmp_path / "set", 3), tmp_path / "out" / "pictures.csv"
    first = evaluated(folder, loop.Results(path), epsilons=(0.4, 0.6))
    text = path.read_text()
    detected = []
    plain = loop.Tiled.detect
    monkeypatch.setattr(loop.Tiled, "detect", lambda self, pixels: detected.append(1) or plain(self, pixels))
    again = evaluated(folder, loop.Results(path), epsilons=(0.4, 0.6))
    assert not detected
    assert again.reused == 6
    assert repr(again.rows) == repr(first.rows)  # NaN is not equal to itself
    # killed while a row was being written: that one alone is worked out again, by a single detection
    path.write_text(text[:-20])
    healed = evaluated(folder, loop.Results(path), epsilons=(0.4, 0.6))
    assert healed.reused == 5
    assert len(detected) == 1
    assert len(path.read_text().splitlines()) == 7
    # another picture of the same name, other weights, other settings: nothing is taken over
    save(folder / "blur" / "0.png", picture(99))
    assert evaluated(folder, loop.Results(path), epsilons=(0.4,)).reused == 2
    assert evaluated(folder, loop.Results(path), epsilons=(0.4,), keep_sharp=False).reused == 0


def test_names_with_line_breaks_and_quotes_are_found_again(tmp_path):
    folder, path = dataset(tmp_path / "set", 0), tmp_path / "out" / "pictures.csv"
    for half in ("blur", "sharp"):
        save(folder / half / 'a\n"b", c.png', picture(1))
    evaluated(folder, loop.Results(path))
    assert evaluated(folder, loop.Results(path)).reused == 1


def test_a_file_of_another_kind_is_not_touched(tmp_path):
    path = tmp_path / "pictures.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(EvaluationError, match="choose another folder"):
        loop.Results(path)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_damaged_picture_is_named_and_the_rest_measured(tmp_path):
    folder = dataset(tmp_path, 3)
    (folder / "blur" / "1.png").write_bytes(b"no picture")
    save(folder / "sharp" / "2.png", picture(0)[:40])
    found = evaluated(folder)
    assert len(found.rows["test", "0.5"]) == 1
    assert len(found.failures) == 2
    assert "1.png" in found.failures[0]
    assert "differ in size" in found.failures[1]


def test_a_lone_half_is_named_and_the_rest_measured(tmp_path):
    folder = dataset(tmp_path, 2)
    (folder / "sharp" / "0.png").unlink()
    found = evaluated(folder)
    assert len(found.rows["test", "0.5"]) == 1
    assert "sharp/0.png" in found.failures[0]
    (folder / "sharp" / "1.png").unlink()
    with pytest.raises(TrainingError, match="none of the 2 blurred pictures"):
        find_cases(folder)


def spoilt(folder, part):
    """Make a file of sample 0001 one that is not of that sample."""
    path = folder / part / ("0001.npz" if part == "motion" else "0001.png")
    if part == "motion":
        np.savez(path, start=np.zeros((2, 5, 5), np.float16), end=np.zeros((2, 5, 5), np.float16))
        return
    with Image.open(path) as image:
        changed = image.crop((0, 0, 20, 20)) if part == "sharp" else image.convert("RGBA")
    changed.save(path)


@pytest.mark.parametrize("part", ["blur", "sharp", "mask", "motion"])
def test_a_spoilt_sample_is_named_and_the_rest_measured(tmp_path, part):
    photos = [torch.from_numpy(picture(seed)).permute(2, 0, 1) for seed in (0, 1)]
    settings = BlurSettings(objects=1)
    prepare_folder(tmp_path, photos, settings, 64, 0)
    for number in range(2):
        write_sample(tmp_path, number, fixed_sample(photos, number, 64, settings, 0))
    assert len(evaluated(tmp_path).rows["test", "0.5"]) == 2
    spoilt(tmp_path, part)
    found = evaluated(tmp_path)
    assert len(found.rows["test", "0.5"]) == 1
    assert len(found.failures) == 1
    assert "sample 0001" in found.failures[0]


def test_the_length_of_blur_is_the_mean_displacement_within_the_mask(tmp_path):
    photos = [torch.from_numpy(picture(seed)).permute(2, 0, 1) for seed in (0, 1)]
    settings = BlurSettings(objects=1)
    prepare_folder(tmp_path / "synth", photos, settings, 64, 0)
    sample = fixed_sample(photos, 0, 64, settings, 0)
    write_sample(tmp_path / "synth", 0, sample)
    length = (sample.end - sample.start).square().sum(1).sqrt()[sample.mask[0] > 0].mean()
    (row,) = evaluated(tmp_path / "synth").rows["test", "0.5"]
    assert row["blur_length"] == pytest.approx(float(length), rel=2e-3)  # files hold 16 bits
    (row,) = evaluated(dataset(tmp_path / "pairs", 1)).rows["test", "0.5"]
    assert math.isnan(row["blur_length"])


@given(st.lists(st.tuples(st.floats(0, 200) | st.just(math.nan), st.floats(-5, 5)), min_size=1, max_size=30))
def test_gains_by_length_are_those_of_the_pictures_with_such_blur(pictures):
    unknown = dict.fromkeys(MEASURES, math.nan)
    rows = [unknown | {"blur_length": length, "gain_psnr_w": gain} for length, gain in pictures]
    found = summarize(rows)
    groups = {name: found[name] for name in LENGTHS if name in found}
    known = [gain for length, gain in pictures if not math.isnan(length)]
    assert sum(mean.count for mean in groups.values()) == len(known)  # each in one group
    assert sum(mean.mean * mean.count for mean in groups.values()) == pytest.approx(sum(known), abs=1e-6)
    alone = [length for length, _ in pictures if length < 4]
    assert ("gain_psnr_w_under_4" in groups) == bool(alone)


def test_the_table_tells_gains_by_the_lengths_of_blur_that_occur():
    unknown = dict.fromkeys(MEASURES, math.nan)
    lengths = {10.0: 1.0, 15.9: 3.0, 16.0: -1.0, 300.0: 0.5}
    rows = [unknown | {"blur_length": length, "gain_psnr_w": gain} for length, gain in lengths.items()]
    lines = [line.split() for line in table({("a", "0.5"): summarize(rows)}) if "blur" in line]
    assert lines[0][:5] == ["blur", "4-16", "px", "(2)", "+2.000"]
    assert lines[1] == ["blur", "16-40", "px", "(1)", "-1.000"]
    assert lines[2] == ["blur", ">", "80", "px", "(1)", "+0.500"]
    assert lines[3][:2] == ["blur", "length,"]


def test_intervals_cover_the_mean_and_shrink_with_more_pictures():
    rng = np.random.default_rng(0)
    few, many = (estimate(list(rng.normal(5, 2, count))) for count in (20, 2000))
    assert few.low < few.mean < few.high
    # the interval of a mean of normal numbers is known: 1.96 standard errors to either side
    assert (many.high - many.low) / 2 == pytest.approx(1.96 * 2 / 2000**0.5, rel=0.1)
    assert many.high - many.low < few.high - few.low
    assert estimate([math.nan, 3.0]).mean == 3
    assert math.isnan(estimate([3.0]).low)
    assert (estimate([3.0, math.nan, 1.0, 2.0]).least, estimate([3.0, 1.0, 2.0]).most) == (1, 3)
    assert estimate([math.nan]) is None


def test_the_table_has_a_row_for_each_known_measure(tmp_path):
    found = evaluated(dataset(tmp_path, 2, masks=False), epsilons=(0.2, 0.4, 0.5, 0.6))
    lines = table({place: summarize(rows) for place, rows in found.rows.items()})
    assert sum(line.startswith("PSNR, dB") for line in lines) == 2  # four columns: three and one below
    assert not any(line.startswith(("PSNR_w", "mask IoU", "endpoints")) for line in lines)
    assert max(map(len, lines)) <= 100
    assert set(MEASURES) >= set(summarize(found.rows["test", "0.2"]))


def test_the_table_tells_the_worst_and_means_over_fewer_pictures():
    rows = [
        dict.fromkeys(MEASURES, math.nan) | {"psnr": 30.0, "gain_psnr_w": gain} for gain in (2, -1, math.nan)
    ]
    lines = table({("a", "0.5"): summarize(rows)})
    assert [line.split()[-1] for line in lines if "worst picture" in line] == ["-1.000"]
    assert any(line.startswith("PSNR_w gained, dB (2)") for line in lines)
    assert "over n pictures" in lines[-1]
    assert "(" not in " ".join(table({("a", "0.5"): summarize(rows[:2])}))


def test_labels_are_the_shortest_ends_that_differ():
    assert labels(["x/weights.st", "y/weights.st"]) == {
        "x/weights.st": "x/weights.st",
        "y/weights.st": "y/weights.st",
    }
    assert list(labels(["a/b/one.st", "two.st"]).values()) == ["one.st", "two.st"]
    assert list(labels(["p/a/w.st", "q/a/w.st", "w.st"]).values()) == ["p/a/w.st", "q/a/w.st", "w.st"]
