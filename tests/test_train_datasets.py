"""Published datasets in exactly their folders: every pair is found, read whole, and cut alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from train_helpers import picture, write_photos

from deblur_cli.errors import DecodeError, TrainingError
from deblur_cli.photo.decode import decode
from deblur_cli.train.datasets import (
    Pair,
    cut_pair,
    find_pairs,
    is_packed,
    load_photos,
    packed,
    read_pair,
    read_rgb,
)

SIZE = (48, 64)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def blob(value=255):
    mask = np.zeros(SIZE, np.uint8)
    mask[10:20, 30:50] = value
    return mask


def gopro(folder, masks=False):
    for scene in ("GOPR0372_07_00", "GOPR0374_11_01"):
        for number in (47, 48):
            name = f"{number:06}.png"
            save(folder / "train" / scene / "blur" / name, picture(SIZE, number))
            save(folder / "train" / scene / "sharp" / name, picture(SIZE, number + 100))
            if masks:
                save(folder / "train" / scene / "mask" / name, blob())
    return folder


def reloblur(root, suffix=".png"):
    for scene, sequence in (("s01", "00"), ("s01", "01"), ("s02", "00")):
        place = root / "dataset" / "train" / scene / sequence
        save(place / "00_blur.png", picture(SIZE, 1))
        save(place / "00_sharp.png", picture(SIZE, 2))
        mask = root / "masks" / "train" / scene / sequence / f"00{suffix}"
        mask.parent.mkdir(parents=True)
        if suffix == ".npy":
            np.save(mask, blob(1).astype(bool))
        else:
            Image.fromarray(np.repeat(blob()[..., None], 3, axis=2)).save(mask)
    return root / "dataset"


def test_gopro_is_blurred_all_over(tmp_path):
    pairs = find_pairs(gopro(tmp_path / "GOPRO_Large"))
    assert len(pairs) == 4
    blurred, sharp, mask = read_pair(pairs[0])
    assert np.array_equal(blurred.permute(1, 2, 0).numpy(), picture(SIZE, 47))
    assert np.array_equal(sharp.permute(1, 2, 0).numpy(), picture(SIZE, 147))
    assert mask.shape == (1, *SIZE) and mask.min() == 1


def test_masks_beside_pairs_are_used(tmp_path):
    pairs = find_pairs(gopro(tmp_path / "made", masks=True))
    assert np.array_equal(read_pair(pairs[0])[2][0].numpy() * 255, blob())


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_reloblur_takes_its_masks_from_the_parallel_folder(tmp_path, suffix):
    pairs = find_pairs(reloblur(tmp_path, suffix) / "train")
    assert [pair.blurred.parts[-3:] for pair in pairs] == [
        ("s01", "00", "00_blur.png"),
        ("s01", "01", "00_blur.png"),
        ("s02", "00", "00_blur.png"),
    ]
    blurred, sharp, mask = read_pair(pairs[0])
    assert np.array_equal(blurred.permute(1, 2, 0).numpy(), picture(SIZE, 1))
    assert np.array_equal(sharp.permute(1, 2, 0).numpy(), picture(SIZE, 2))
    assert np.array_equal(mask[0].numpy() * 255, blob())


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00 no header", b"no array"])
def test_damaged_masks_are_refused(tmp_path, content):
    dataset = reloblur(tmp_path, ".npy")
    (pair, *_) = find_pairs(dataset)
    pair.mask.write_bytes(content)
    with pytest.raises(TrainingError, match=r"cannot read .*00\.npy"):
        read_pair(pair)


def test_a_mask_file_cannot_run_code(tmp_path):
    (pair, *_) = find_pairs(reloblur(tmp_path, ".npy"))
    np.save(pair.mask, np.array({"mask": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(TrainingError, match="allow_pickle=False"):
        read_pair(pair)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(TrainingError, match="there is no folder"):
        find_pairs(tmp_path / "none")
    with pytest.raises(TrainingError, match="no pairs in"):
        find_pairs(tmp_path)
    dataset = reloblur(tmp_path / "a")
    next(dataset.rglob("*_sharp.png")).unlink()
    with pytest.raises(TrainingError, match=r"no sharp partner 00_sharp\.png"):
        find_pairs(dataset)
    dataset = reloblur(tmp_path / "b")
    next((tmp_path / "b" / "masks").rglob("*.png")).unlink()
    with pytest.raises(TrainingError, match="has no mask"):
        find_pairs(dataset)


def test_pictures_of_different_sizes_are_no_pair(tmp_path):
    save(tmp_path / "blur" / "0.png", picture((48, 64)))
    save(tmp_path / "sharp" / "0.png", picture((48, 48)))
    with pytest.raises(TrainingError, match="differ in size"):
        read_pair(find_pairs(tmp_path)[0])
    with pytest.raises(TrainingError, match="smaller than the patch"):
        cut_pair(Pair(tmp_path / "blur" / "0.png", tmp_path / "blur" / "0.png"), 64, 0.5, torch.Generator())


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([16, 32, 48]))
def test_all_parts_of_a_patch_are_cut_alike(tmp_path_factory, seed, size):
    folder = tmp_path_factory.mktemp("pair")
    pixels = picture(SIZE, 3)
    save(folder / "blur" / "0.png", pixels)
    save(folder / "sharp" / "0.png", pixels)
    save(folder / "mask" / "0.png", (pixels[..., 0] > 128).astype(np.uint8))
    sample = cut_pair(find_pairs(folder)[0], size, 0.5, torch.Generator().manual_seed(seed))
    assert sample.blurred.shape == (1, 3, size, size)
    assert torch.equal(sample.blurred, sample.sharp)
    assert torch.equal(sample.mask, (sample.blurred[:, :1] * 255 > 128).float())
    assert sample.measured


def test_aware_cropping_finds_the_blur_and_plain_cropping_often_does_not(tmp_path):
    pixels = picture((256, 256))
    mask = np.zeros((256, 256), np.uint8)
    mask[200:206, 20:26] = 255
    save(tmp_path / "blur" / "0.png", pixels)
    save(tmp_path / "sharp" / "0.png", pixels)
    save(tmp_path / "mask" / "0.png", mask)
    pairs = find_pairs(tmp_path)
    generator = torch.Generator().manual_seed(0)
    aware, plain = (
        [bool(cut_pair(pairs[0], 32, share, generator).mask.any()) for _ in range(12)] for share in (1.0, 0.0)
    )
    assert all(aware)
    assert sum(plain) < 6


def test_photos_are_read_in_the_order_of_their_names_and_gray_ones_get_three_channels(tmp_path):
    Image.fromarray(picture((20, 30))[..., 0]).save(tmp_path / "b.png")
    Image.fromarray(picture((10, 12))).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = load_photos(tmp_path)
    assert (first.shape, second.shape) == ((3, 10, 12), (3, 20, 30))
    assert torch.equal(second[0], second[2])
    assert np.array_equal(second[0].numpy(), picture((20, 30))[..., 0])


def test_missing_empty_and_damaged_photos_are_named(tmp_path):
    with pytest.raises(TrainingError, match=r"no folder .*gone"):
        load_photos(tmp_path / "gone")
    with pytest.raises(TrainingError, match="no pictures in"):
        load_photos(tmp_path)
    (write_photos(tmp_path / "photos") / "3.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DecodeError, match=r"3\.png"):
        load_photos(tmp_path / "photos")


def test_packed_photos_are_read_as_any_reader_reads_them(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(packed(torch.from_numpy(picture((90, 120))).permute(2, 0, 1), side=60))
    assert is_packed(path)
    found = read_rgb(path)
    assert found.shape == (3, 45, 60)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), decode(path).pixels)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DecodeError, match=r"a\.jpg: is damaged .*pack the photos again"):
        read_rgb(path)
