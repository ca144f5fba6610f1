"""What was found: kept in a file and read again, edited or not; anything else is refused in one line."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from restoration_helpers import cells_of, findings_of

from deblur_cli.errors import DecodeError
from deblur_cli.restoration.findings import Findings, everywhere, read_npz, to_npz

MAPS = ("probability", "start", "end", "scale")


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 99))
def test_findings_come_back_as_they_were(tmp_path_factory, height, width, seed):
    path = tmp_path_factory.mktemp("findings") / "photo_motion.npz"
    findings = findings_of(height, width, seed)
    path.write_bytes(to_npz(findings, 0.5))
    again = read_npz(path)[0]
    assert again.size == (height, width)
    for name in MAPS:
        assert np.array_equal(getattr(again, name), getattr(findings, name))
        assert getattr(again, name).dtype == np.float32


def edited(**changes):
    """A file of findings with other arrays in it; None for one that is taken out."""
    with np.load(io.BytesIO(to_npz(findings_of(100, 60), 0.5))) as held:
        arrays = {name: value for name, value in (dict(held) | changes).items() if value is not None}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        read_npz(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def cells(value):
    return np.full(cells_of(100, 60), value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": None}, "not a file written by --data npz"),
        ({"probability": cells(0.5)[:-1]}, "probability has the shape"),
        ({"scale": cells(1.0).T}, "scale has the shape"),
        ({"size": np.array([2**62, 2**62])}, "has the shape"),
        ({"size": np.array([100, 60, 3])}, "size must be height and width"),
        ({"size": np.array([np.nan, np.inf])}, "size must be height and width"),
        ({"size": np.array(["a", "b"])}, "size is not numeric"),
        ({"probability": cells(np.nan)}, "not finite numbers"),
        ({"end": np.full((2, *cells_of(100, 60)), 1e300)}, "not finite numbers"),
        ({"probability": cells(1.01)}, "probability must be 0 to 1"),
        ({"probability": cells(255).astype(np.uint8)}, "probability must be 0 to 1"),
        ({"scale": cells(0.5)}, "scale must be 1 to 8"),
        ({"probability": cells("x")}, "probability is not numeric"),
        ({"version": np.int64(99)}, "a newer version of deblur wrote it"),
        ({"probability": cells("2020-01-01").astype("M8[D]")}, "probability is not numeric"),
        ({"probability": cells(None)}, "cannot read the findings"),  # pickled
    ],
)
def test_arrays_that_are_no_findings_are_refused(tmp_path, changes, message):
    assert message in refused(tmp_path / "edited.npz", edited(**changes))


def other_files():
    alone, text, locked = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(alone, cells(0.5))
    with zipfile.ZipFile(text, "w") as file:
        file.writestr("probability.npy", "not an array")
        file.writestr("start", "nor this")
    with zipfile.ZipFile(locked, "w") as file:
        file.writestr("notes.txt", "hello")
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    return {
        "nothing": b"",
        "text": b"probability: 1\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "array": alone.getvalue(),
        "pickled": objects.getvalue(),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.",
        "archive": locked.getvalue(),
        "archive of arrays that are none": text.getvalue(),
    }


@pytest.mark.parametrize("kind", other_files())
def test_files_of_other_programs_are_refused(tmp_path, kind):
    text = refused(tmp_path / "other.npz", other_files()[kind])
    assert "pickle" not in text  # no hint at a way to run what is in it


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "missing.npz", tmp_path):
        with pytest.raises(DecodeError, match=r"No such file|directory|denied"):
            read_npz(path)


@given(st.floats(0, 1, exclude_max=True))
def test_cut_off_files_are_refused(tmp_path_factory, kept):
    content = to_npz(findings_of(100, 60), 0.5)
    refused(tmp_path_factory.mktemp("cut") / "cut.npz", content[: int(len(content) * kept)])


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_refused_or_read(tmp_path_factory, changes):
    content = bytearray(edited())  # not compressed, so that damage reaches the headers of arrays
    for where, value in changes:
        content[int(len(content) * where)] = value
    path = tmp_path_factory.mktemp("damaged") / "damaged.npz"
    path.write_bytes(bytes(content))
    try:
        findings = read_npz(path)[0]
    except DecodeError as error:
        assert "\n" not in str(error)
    else:
        assert findings.size == (100, 60)


def test_a_file_without_scales_is_read_as_of_the_photo_itself(tmp_path):
    (tmp_path / "old.npz").write_bytes(edited(scale=None, version=np.int64(1)))
    assert (read_npz(tmp_path / "old.npz")[0].scale == 1).all()


def test_a_map_of_another_type_is_read(tmp_path):
    """Editors save what they like: double precision, whole numbers, columns first."""
    painted = np.asfortranarray(cells(1))
    (tmp_path / "painted.npz").write_bytes(edited(probability=painted, scale=cells(2.0)))
    findings = read_npz(tmp_path / "painted.npz")[0]
    assert (findings.probability == 1).all() and (findings.scale == 2).all()


def test_findings_of_the_whole_photo_know_no_motion():
    findings = everywhere(90, 50, 0.7, scale=2)
    assert (findings.probability == np.float32(0.7)).all() and (findings.scale == 2).all()
    assert not findings.length.any()


def test_maps_of_any_layout_are_findings():
    probability = np.linspace(0, 1, 24).reshape(4, 6)[::-1, ::-1]
    findings = Findings((32, 48), probability, np.zeros((2, 4, 6), int), np.zeros((2, 4, 6)), np.ones((4, 6)))
    for values in (findings.probability, findings.start, findings.end, findings.scale):
        assert values.dtype == np.float32 and values.flags.c_contiguous
    np.testing.assert_allclose(findings.probability, probability)
