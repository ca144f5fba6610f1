import io
import struct
from dataclasses import replace
from xml.etree import ElementTree

import exifread
import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    MAKER_NOTE,
    SRGB,
    SUFFIXES,
    XMP,
    exif_block,
    exif_tags,
    file_bytes,
    full_metadata,
    make_photo,
    needs_camera,
    random_pixels,
    smooth_pixels,
    to_pillow,
)
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from deblur_cli.photo import exif
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.photo.metadata import resources_of_iptc, without_thumbnails
from deblur_cli.photo.photo import Metadata

NOTE = "deblur 0.4.0 (weights base, epsilon 0.5)"
ALL_SUFFIXES = [*SUFFIXES.values(), ".avif"]
ALL_SUFFIXES.remove(".bmp")


def resource(number, content, name=b""):
    title = bytes([len(name)]) + name
    title += b"\0" * (len(title) % 2)
    return (
        b"8BIM"
        + struct.pack(">H", number)
        + title
        + struct.pack(">I", len(content))
        + content
        + b"\0" * (len(content) % 2)
    )


CAPTION = resource(0x0404, b"\x1c\x02\x78\0\x0bBy the lake")
THUMBNAILS = [resource(1033, b"old thumbnail"), resource(1036, b"thumbnail", b"odd")]
PATH = resource(2000, bytes(26), b"Path 1")


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
@pytest.mark.parametrize("deep", [False, True])
def test_the_note_stands_behind_the_cameras_software(tmp_path, suffix, deep):
    camera = Image.Exif()
    camera.load(exif_block())
    camera[ExifTags.Base.Software] = "Ver. 1.02"
    block = camera.tobytes()[6:]
    pixels = random_pixels(8, 8, 3).astype(np.uint16) * 257 if deep else random_pixels(8, 8, 3)
    photo = make_photo(pixels, tmp_path / "s.png", metadata=Metadata(exif=block))
    encode(photo, tmp_path / f"r{suffix}", note=NOTE)
    tags = exif_tags(decode(tmp_path / f"r{suffix}").metadata.exif)
    assert tags["main"][ExifTags.Base.Software] == f"Ver. 1.02; {NOTE}"
    assert tags["main"][ExifTags.Base.Make] == "Lens & Sons"
    assert tags["exposure"] == exif_tags(block)["exposure"]
    assert tags["gps"] == exif_tags(block)["gps"]


def test_the_note_is_read_by_another_program_and_grows_with_each_run(tmp_path):
    encode(make_photo(smooth_pixels(16, 16), tmp_path / "s.png"), tmp_path / "1.jpg", note=NOTE)
    encode(decode(tmp_path / "1.jpg"), tmp_path / "2.jpg", note="deblur 0.5.0\n (weights\tnext)")
    with (tmp_path / "2.jpg").open("rb") as file:
        software = str(exifread.process_file(file, truncate_tags=False)["Image Software"])
    assert software == f"{NOTE}; deblur 0.5.0 (weights next)"


@given(note=st.text(min_size=1).filter(str.strip), order=st.sampled_from("<>"), orientation=st.integers(1, 8))
def test_a_note_moves_nothing_in_the_block(note, order, orientation):
    given = Image.Exif()
    given.endian = order
    given[ExifTags.Base.Orientation] = orientation
    given[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: MAKER_NOTE}
    block = given.tobytes()[6:]
    noted = exif.with_software(block, note)
    assert noted[8 : len(block)] == block[8:]  # maker notes name places in the block
    tags = exif_tags(noted)
    assert tags["exposure"][ExifTags.Base.MakerNote] == MAKER_NOTE
    assert tags["main"][ExifTags.Base.Orientation] == orientation
    expected = note.encode("ascii", "replace").split(b"\0")[0].decode()
    assert str(tags["main"].get(ExifTags.Base.Software, "")).startswith(expected.rstrip())


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_strip_leaves_the_profile_alone(tmp_path, suffix):
    metadata = replace(full_metadata(), photoshop=CAPTION, comment=b"by the lake")
    photo = make_photo(random_pixels(8, 8, 3), tmp_path / "s.png", metadata=metadata)
    encode(photo, tmp_path / f"r{suffix}", note=NOTE, strip=True)
    content = (tmp_path / f"r{suffix}").read_bytes()
    for trace in (b"Lens & Sons", b"xmpmeta", b"lake", b"deblur", MAKER_NOTE[50:60]):
        assert trace not in content
    assert decode(tmp_path / f"r{suffix}").metadata.icc == SRGB


def test_strip_keeps_what_a_png_says_of_color(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 45455))
    chunks.add_text("Author", "me")
    path = tmp_path / "s.png"
    path.write_bytes(file_bytes(to_pillow(random_pixels(4, 5, 3)), "PNG", pnginfo=chunks))
    encode(decode(path), tmp_path / "r.png", strip=True)
    assert decode(tmp_path / "r.png").metadata.png_chunks == ((b"gAMA", struct.pack(">I", 45455)),)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_photoshops_thumbnails_go_and_captions_stay(tmp_path, kind):
    block = THUMBNAILS[0] + CAPTION + THUMBNAILS[1] + PATH
    image = to_pillow(smooth_pixels(16, 16))
    if kind == "JPEG":
        segment = b"Photoshop 3.0\0" + block
        content = file_bytes(image, "JPEG", extra=b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment)
    else:
        content = file_bytes(image, "TIFF", tiffinfo={34377: block})
    path = tmp_path / f"s{SUFFIXES[kind]}"
    path.write_bytes(content)
    photo = decode(path)
    assert photo.metadata.photoshop == CAPTION + PATH
    encode(photo, tmp_path / "r.jpg")
    with Image.open(tmp_path / "r.jpg") as image:
        assert image.info["photoshop"][0x0404] == b"\x1c\x02\x78\0\x0bBy the lake"
        assert not {1033, 1036} & set(image.info["photoshop"])


@given(resources=st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"8BIM\x04\x04" + tail))
def test_broken_photoshop_blocks_are_known_as_such(resources):
    try:
        kept = without_thumbnails(resources)
    except ValueError:
        return
    assert len(kept) <= len(resources)


def test_a_broken_photoshop_block_is_kept_and_logged(tmp_path, caplog):
    path = tmp_path / "s.tif"
    path.write_bytes(file_bytes(to_pillow(smooth_pixels(8, 8)), "TIFF", tiffinfo={34377: b"8BIM\x04\x04?"}))
    assert decode(path).metadata.photoshop == b"8BIM\x04\x04?"
    assert "Photoshop block is broken" in caplog.text


def test_iptc_of_a_tiff_reaches_a_jpeg(tmp_path):
    iptc = b"\x1c\x02\x78\0\x0bBy the lake"
    path = tmp_path / "s.tif"
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[33723] = iptc
    info.tagtype[33723] = 7
    path.write_bytes(file_bytes(to_pillow(smooth_pixels(16, 16)), "TIFF", tiffinfo=info))
    encode(decode(path), tmp_path / "r.jpg")
    with Image.open(tmp_path / "r.jpg") as image:
        assert image.info["photoshop"][0x0404] == iptc
    assert without_thumbnails(resources_of_iptc(iptc)) == resources_of_iptc(iptc)


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
@pytest.mark.parametrize(
    "broken",
    [
        {"exif": b"not a TIFF header at all"},
        {"exif": b"II*\0\xff\xff\xff\0"},
        {"xmp": b"\xff\xfe no XML"},
        {"dpi": (1e300, 1e300)},
        {"icc": b"short"},
    ],
)
def test_broken_blocks_never_cost_the_photo(tmp_path, suffix, broken):
    pixels = random_pixels(8, 8, 3)
    photo = make_photo(pixels, tmp_path / "s.png", metadata=Metadata(**broken))
    lost = encode(photo, tmp_path / f"r{suffix}", note=NOTE)
    back = decode(tmp_path / f"r{suffix}")
    if suffix in (".png", ".tif", ".webp"):
        assert np.array_equal(back.pixels, pixels)
    if "exif" in broken:
        assert lost == ("its EXIF block, which is broken",)


@pytest.mark.parametrize("broken", [b"nonsense", b"MM\0*\xff\xff\0\0", b"MM\0*\0\0\0\xff"])
def test_an_avif_with_broken_exif_is_read_all_the_same(tmp_path, broken):
    pixels = smooth_pixels(16, 24)
    content = file_bytes(to_pillow(pixels), "AVIF", exif=b"Exif\0\0" + exif_block(), xmp=XMP, quality=98)
    start = content.index(exif_block()[:8])
    path = tmp_path / "s.avif"
    path.write_bytes(content[:start] + broken + content[start + 8 :])
    photo = decode(path)
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 4
    assert (photo.metadata.exif, photo.metadata.xmp) == (None, XMP)
    (lost,) = photo.left_out
    assert lost.startswith("its EXIF block, which is broken")


@needs_camera
@pytest.mark.parametrize("name", ["adobe_rgb.jpg", "flower_p3.heic", "rgb16_adobergb.tiff"])
@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_camera_metadata_before_and_after(tmp_path, name, suffix):
    photo = decode(CAMERA / name)
    encode(photo, tmp_path / f"r{suffix}", note=NOTE)
    before, after = (all_tags(path) for path in (CAMERA / name, tmp_path / f"r{suffix}"))
    assert after.pop("Image Software").endswith(NOTE)
    assert after.get("Image Orientation", "Horizontal (normal)") == "Horizontal (normal)"
    same = {key for key in before if key.startswith(("EXIF ", "GPS ")) and "Image" not in key}
    same |= {"Image Make", "Image Model", "Image Artist", "Image Copyright"} & set(before)
    assert len(same) > 3
    assert {key: after.get(key) for key in same} == {key: before[key] for key in same}
    assert not any(key.startswith("Thumbnail") for key in after)
    with Image.open(tmp_path / f"r{suffix}") as image:
        assert image.info.get("icc_profile") == photo.metadata.icc


def all_tags(path):
    with path.open("rb") as file:
        tags = exifread.process_file(file, details=False, truncate_tags=False)
    return {name: str(tag) for name, tag in tags.items() if name != "JPEGThumbnail"}


def test_a_16_bit_png_takes_the_note_too(tmp_path):
    pixels = random_pixels(4, 5, 3).astype(np.uint16) * 200
    encode(make_photo(pixels, tmp_path / "s.png"), tmp_path / "r.png", note=NOTE)
    content = (tmp_path / "r.png").read_bytes()
    assert np.array_equal(imagecodecs.png_decode(content), pixels)
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif()[ExifTags.Base.Software] == NOTE


GAIN_MAP_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
xmlns:dc="http://purl.org/dc/elements/1.1/"
xmlns:Container="http://ns.google.com/photos/1.0/container/" hdrgm:Version="1.0" dc:source="lake"
xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1">
<Container:Directory><rdf:Seq/>
</Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_xmp_promises_no_gain_map_or_video_that_the_result_lacks(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(file_bytes(to_pillow(random_pixels(16, 16, 3)), "JPEG", xmp=GAIN_MAP_XMP))
    encode(decode(path), tmp_path / "b.jpg")
    (root,) = ElementTree.fromstring(decode(tmp_path / "b.jpg").metadata.xmp)[0]
    assert [(name.split("}")[1], value) for name, value in root.attrib.items()] == [("source", "lake")]
    assert len(root) == 0
