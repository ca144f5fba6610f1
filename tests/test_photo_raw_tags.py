"""What of a RAW file's tags reaches the developed picture, and what is named as lost."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import CAMERA, XMP, damaged, exif_block, exif_tags, needs_camera
from photo_raw import make_dng, quarters
from PIL.ExifTags import Base

from deblur_cli.photo import exif
from deblur_cli.photo.bmff import XMP_UUID, read_canon
from deblur_cli.photo.decode import decode
from deblur_cli.photo.exif import BrokenExifError, Directories, Value
from deblur_cli.photo.photo import CREDENTIALS, DEPTH_MAP
from deblur_cli.photo.raw_tags import MAKER_NOTES, photographic, read_tags


def developed(folder, content, name="photo.dng"):
    path = folder / name
    path.write_bytes(content)
    return decode(path)


def box(name, *parts, wide=False):
    content = b"".join(parts)
    if wide:
        return struct.pack(">I4sQ", 1, name, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, name) + content


def tiff_of(order="<", **tags):
    """A TIFF whose main directory holds text by the names of its tags."""
    return exif.build(Directories(order, {Base[name]: Value(2, text) for name, text in tags.items()}))


def canon_cr3(**blocks):
    """The boxes of a CR3 in the order of the camera's: EXIF in four TIFFs, XMP, a preview, sensor data."""
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    inner = box(
        b"uuid",
        canon,
        box(b"CNCV", b"CanonCR3_001/01.09.00"),
        *(box(name.encode(), content) for name, content in blocks.items()),
    )
    return b"".join(
        [
            box(b"ftyp", b"crx \0\0\0\1crx isom"),
            box(b"moov", inner, box(b"mvhd", bytes(100))),
            box(b"uuid", XMP_UUID, XMP.ljust(4096), bytes(16)),
            box(b"uuid", bytes(16), b"a preview"),
            box(b"mdat", bytes(5000), wide=True),
        ]
    )


CR3 = canon_cr3(
    CMT1=tiff_of(Make=b"Canon\0", Artist="Zoë".encode() + b"\0"),
    CMT2=tiff_of(LensModel=b"RF50mm F1.8\0"),
    CMT3=tiff_of(Software=b"settings\0"),
    CMT4=exif.build(Directories("<", {1: Value(2, b"N\0")})),
)


def test_tags_of_cr3_are_read_from_its_four_small_tiffs():
    kept, lost = photographic(read_tags(io.BytesIO(CR3)))
    assert kept.main == {Base.Make: Value(2, b"Canon\0"), Base.Artist: Value(2, "Zoë".encode() + b"\0")}
    assert kept.exif == {Base.LensModel: Value(2, b"RF50mm F1.8\0")}
    assert kept.gps == {1: Value(2, b"N\0")}
    assert lost == (MAKER_NOTES,)


def test_xmp_of_cr3_is_found_behind_the_camera_s_boxes():
    file = io.BytesIO(CR3)
    assert read_canon(file)["xmp"].rstrip() == XMP
    assert file.tell() == 0
    assert read_canon(io.BytesIO(CR3.replace(b"crx ", b"isom"))) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\0",
        CR3[:20],
        CR3[: CR3.index(XMP_UUID) + 4],
        CR3.replace(struct.pack(">I4s", 4096 + 40, b"uuid"), struct.pack(">I4s", 12, b"uuid")),
        box(b"ftyp", b"crx ") + struct.pack(">I4sQ", 1, b"mdat", 3),
    ],
)
def test_a_cut_or_damaged_cr3_has_no_xmp(content):
    assert "xmp" not in read_canon(io.BytesIO(content))


@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.floats(0, 1),
    file=st.sampled_from(["cr3", "raf", "mrw", "crw"]),
)
@settings(max_examples=150)
def test_damaged_directories_are_an_error_that_is_known(changes, kept, file):
    content = {"cr3": CR3, "raf": fujifilm_raf(), "mrw": minolta_mrw(), "crw": canon_crw()}[file]
    try:
        found = read_tags(io.BytesIO(damaged(content, changes, kept)))
    except (BrokenExifError, struct.error):
        return
    exif.main_directory(exif.build(photographic(found)[0]))


def fujifilm_raf():
    segment = b"Exif\0\0" + exif_block()
    jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    return b"FUJIFILMCCD-RAW 0201FF".ljust(84, b"\0") + struct.pack(">II", 148, len(jpeg)) + bytes(56) + jpeg


def minolta_mrw():
    blocks = [(b"\0PRD", bytes(24)), (b"\0TTW", exif_block())]
    content = b"".join(struct.pack(">4sI", name, len(block)) + block for name, block in blocks)
    return b"\0MRM" + struct.pack(">I", len(content)) + content


def canon_crw(serial=1234567, model=b"Canon EOS 10D"):
    """A heap with the camera's name in a heap within it, and its serial number in the table."""
    name = b"Canon\0" + model + b"\0"
    inner = name + struct.pack("<HHIII", 1, 0x080A, len(name), 0, len(name))
    table = struct.pack("<HHIIHII", 2, 0x2807, len(inner), 0, 0x580B, serial, 0)
    return b"II\x1a\0\0\0HEAPCCDR".ljust(26, b"\0") + inner + table + struct.pack("<I", len(inner))


@pytest.mark.parametrize(
    "content",
    [
        *(header + exif_block()[4:] for header in (b"MMOR", b"MM\0*")),
        fujifilm_raf(),
        minolta_mrw(),
    ],
)
def test_raw_that_is_a_tiff_in_disguise_or_holds_one(content):
    kept, lost = photographic(read_tags(io.BytesIO(content)))
    tags = exif_tags(exif.build(kept))
    assert tags["main"][Base.Make] == "Lens & Sons"
    assert tags["exposure"] == {Base.ISOSpeedRatings: 400}
    assert tags["gps"][2] == (48.0, 30.0, 1.5)
    assert lost == (MAKER_NOTES,)


@pytest.mark.parametrize("header", [b"IIRO", b"IIRS", b"IIU\0"])
def test_olympus_and_panasonic_tiffs_begin_with_bytes_of_their_own(header):
    content = header + tiff_of(Make=b"Olympus\0")[4:]
    assert read_tags(io.BytesIO(content)).main == {Base.Make: Value(2, b"Olympus\0")}


@pytest.mark.parametrize(
    ("serial", "model", "text"),
    [(1234567, b"Canon EOS 10D", b"0001234567"), (0x1235_09AA, b"Canon EOS D30", b"1235-02474")],
)
def test_camera_and_serial_number_of_crw(serial, model, text):
    kept, lost = photographic(read_tags(io.BytesIO(canon_crw(serial, model))))
    assert kept.main == {Base.Make: Value(2, b"Canon\0"), Base.Model: Value(2, model + b"\0")}
    assert kept.exif == {Base.BodySerialNumber: Value(2, text + b"\0")}
    assert lost == (MAKER_NOTES,)


def test_exposure_in_the_main_directory_goes_where_exif_has_it(tmp_path):
    lens = [(24, 1), (70, 1), (28, 10), (28, 10)]
    further = {
        **{33434: ("R", [(1, 230)]), 34850: ("H", [3]), 37386: ("R", [(37, 1)]), 37393: ("I", [3])},
        **{37397: ("R", [(80, 1)]), 50735: ("s", "SN 17"), 50736: ("R", lens), 18246: ("H", [4])},
        33432: ("s", "© Zoë"),
    }
    photo = developed(tmp_path, make_dng(quarters(), exif=False, further=further))
    tags = exif_tags(photo.metadata.exif)
    assert tags["exposure"] == {
        Base.ExposureTime: pytest.approx(1 / 230),
        Base.ExposureProgram: 3,
        Base.FocalLength: 37,
        Base.ExposureIndex: 80,
        Base.BodySerialNumber: "SN 17",
        Base.LensSpecification: (24, 70, 2.8, 2.8),
    }
    assert {tag: tags["main"][tag] for tag in (18246, 37393)} == {18246: 4, 37393: 3}
    assert "© Zoë".encode() in photo.metadata.exif
    assert photo.left_out == ()


def test_the_exif_directory_counts_before_the_main_one(tmp_path):
    photo = developed(tmp_path, make_dng(quarters(), further={33434: ("R", [(1, 9)])}))
    assert exif_tags(photo.metadata.exif)["exposure"][Base.ExposureTime] == pytest.approx(1 / 250)


def test_what_describes_the_sensor_s_data_is_neither_kept_nor_named(tmp_path):
    noise, levels, unique = 51041, 50711, 50781
    further = {noise: ("R", [(1, 9)] * 2), levels: ("H", [1]), unique: ("B", [7] * 16)}
    photo = developed(tmp_path, make_dng(quarters(), further=further))
    assert photo.left_out == ()
    main = exif_tags(photo.metadata.exif)["main"]
    assert not {noise, levels, unique, 50706, 50721, 33422} & set(main)


@pytest.mark.parametrize(
    ("further", "phrase"),
    [
        ({50740: ("B", list(b"Adobe\0MakN"))}, MAKER_NOTES),
        ({65024: ("I", [12])}, MAKER_NOTES),
        ({50828: ("B", [1] * 30)}, "the original RAW file inside it"),
        ({34377: ("B", [1] * 30)}, "its Photoshop resources"),
        ({52545: ("B", [1] * 30)}, CREDENTIALS),
    ],
)
def test_what_else_a_user_may_miss_is_named(tmp_path, further, phrase):
    assert developed(tmp_path, make_dng(quarters(), further=further)).left_out == (phrase,)


def test_a_value_outside_the_file_is_named_and_the_others_stay(tmp_path):
    content = make_dng(quarters(), further={315: ("s", "Ann Photographer")})
    entry = content.index(struct.pack("<HHI", 315, 2, 17))
    broken = content[: entry + 8] + b"\xff\xff\xff\x7f" + content[entry + 12 :]
    photo = developed(tmp_path, broken)
    assert photo.left_out == ("EXIF tags whose values lie outside the file",)
    assert Base.Make in exif_tags(photo.metadata.exif)["main"]


@pytest.mark.parametrize(
    ("kind", "phrase"), [(8, DEPTH_MAP), (65540, "its masks of sky, skin, and the like"), (1, None)]
)
def test_depth_maps_and_masks_of_a_dng_are_named(tmp_path, kind, phrase):
    content = make_dng(quarters(), further={330: ("I", [0])})
    pointer = content.index(struct.pack("<HHI", 330, 4, 1)) + 8
    numbers = {254: kind, 256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items())
    page = struct.pack("<H", len(numbers)) + entries + bytes(4)
    content = content[:pointer] + struct.pack("<I", len(content)) + content[pointer + 4 :] + page
    assert developed(tmp_path, content).left_out == (() if phrase is None else (phrase,))


def test_xmp_and_iptc_of_a_dng_and_of_olympus_are_found(tmp_path):
    iptc = b"\x1c\x02\x78\0\4lake"
    further = {700: ("B", list(XMP)), 33723: ("I", list(struct.unpack(">3I", iptc.ljust(12, b"\0"))))}
    content = make_dng(quarters(), exif=False, further=further)
    photo = developed(tmp_path, content)
    assert b"\xc3\xa9" in photo.metadata.xmp
    assert iptc in photo.metadata.photoshop
    main = read_tags(io.BytesIO(b"IIRO" + content[4:])).main
    assert main[700].content == XMP


@needs_camera
def test_tags_of_cameras_files():
    crw = decode(CAMERA / "canon_300d.crw")
    tags = exif_tags(crw.metadata.exif)
    assert tags["main"][Base.Model] == "Canon EOS D30"
    assert tags["exposure"][Base.BodySerialNumber] == "1235-02474"
    assert crw.left_out == (MAKER_NOTES,)
    kdc = exif_tags(decode(CAMERA / "kodak_dc50.kdc").metadata.exif)
    assert kdc["exposure"][Base.ExposureProgram] == 2
    assert kdc["exposure"][Base.SubjectDistance] == pytest.approx(8.2, abs=0.1)
    assert kdc["main"][33423].strip("\0") == "Full"
