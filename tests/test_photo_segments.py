import io
import struct
from collections.abc import Callable

import imagecodecs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import XMP, exif_block, file_bytes, smooth_pixels, to_pillow
from PIL import Image

from deblur_cli.photo.decode import decode
from deblur_cli.photo.jpeg_segments import JpegParts, read_parts
from deblur_cli.photo.jpeg_trailer import placed_trailer

THERMAL = "its thermal data, which would not fit the turned picture"
CREDENTIALS = "its C2PA credentials, which would not match the restored picture"
VIDEO = "the video of its motion photo"
GAIN_MAP = "its gain map for HDR screens"
SECOND = "a second picture behind the first"
HDRGM = b'<r:RDF xmlns:r="x" xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0"/>'


def jpeg(**options: object) -> bytes:
    return file_bytes(to_pillow(smooth_pixels(40, 56)), "JPEG", **options)


JPEG = jpeg()
END = len(JPEG)  # where what stands behind the picture begins


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(*segments: bytes, picture: bytes = JPEG) -> bytes:
    return picture[:2] + b"".join(segments) + picture[2:]


def xmp_segment(xmp: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)


def parts_of(content: bytes, *, turned: bool = False) -> JpegParts:
    return read_parts(io.BytesIO(content), turned=turned)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


MP4 = box(b"ftyp", b"mp42\0\0\0\0isom") + box(b"free", b"") + box(b"mdat", bytes(range(256)) * 4)


def sef_value(kind: int, name: bytes, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, kind, len(name)) + name + value


def sef(entries: list[tuple[int, bytes, bytes]]) -> bytes:
    """Samsung's entries of type, name and value, with their directory."""
    values = [sef_value(*entry) for entry in entries]
    directory = b"SEFH" + struct.pack("<II", 107, len(values))
    for index, (kind, _, _) in enumerate(entries):
        behind = sum(map(len, values[index:]))
        directory += struct.pack("<HHII", 0, kind, behind, len(values[index]))
    return b"".join(values) + directory + struct.pack("<I", len(directory)) + b"SEFT"


def with_sound_pointer(trailer: bytes, start: int, end: int) -> bytes:
    """Adds the block of "Sound & Shot" that says where in the file its sound stands."""
    return trailer + b"QDIO" + struct.pack("<IIIII", 101, 1, start, end, 20) + b"QDIO" + b"BS"


def afcp(entries: dict[bytes, bytes], position: int, order: str = ">") -> bytes:
    signature = b"AXS!" if order == ">" else b"AXS*"
    head = signature + struct.pack(f"{order}HHI", 0x100, len(entries), 0)
    offset = position + 12 + 12 * len(entries)
    for name, value in entries.items():
        head += struct.pack(f"{order}4sII", name, len(value), offset)
        offset += len(value)
    return head + b"".join(entries.values()) + signature + struct.pack(f"{order}II", position, 0)


def afcp_values(file: bytes) -> dict[bytes, bytes]:
    """What a reader finds that follows the offsets from the end of the file on."""
    order = ">" if file[-12:-8] == b"AXS!" else "<"
    (start,) = struct.unpack_from(f"{order}I", file, len(file) - 8)
    assert file[start : start + 4] == file[-12:-8]
    (count,) = struct.unpack_from(f"{order}H", file, start + 6)
    entries = struct.iter_unpack(f"{order}4sII", file[start + 12 : start + 12 + 12 * count])
    return {name: file[offset : offset + size] for name, size, offset in entries}


def photo_mechanic(content: bytes = b"\x1c\x02\xdd\0\4\0\0\0\1") -> bytes:
    return content + struct.pack(">I", len(content)) + b"cbipcbbl"


def canon_vrd(content: bytes = b"recipe" * 9) -> bytes:
    name = b"CANON OPTIONAL DATA\0"
    head = name + b"\0\1\0\0" + struct.pack(">I", len(content))
    return head + content + name + struct.pack(">I", len(content)) + bytes(38) + b"\xff\xd9"


def fotostation(*records: tuple[int, bytes]) -> bytes:
    return b"".join(
        content + struct.pack(">HII", tag, len(content) + 10, 0xA1B2C3D4) for tag, content in records
    )


def mie(content: bytes = b"~\0\5\0Title", *, long: bool = False) -> bytes:
    head = b"~\x10\x04\xff0MIE"
    body = head + content + b"~\0\4\0zmie"
    if long:
        return body + b"~\0\0\x0a" + struct.pack(">Q", len(body) + 14) + b"\x10\x08"
    return body + b"~\0\0\x06" + struct.pack("<I", len(body) + 10) + b"\x18\x04"


def insta360(content: bytes = b"gyro" * 30) -> bytes:
    tail = bytes(38) + struct.pack("<I", len(content) + 78) + bytes(4) + b"8db42d694ccc418790edff439fe026bf"
    return content + tail


def nikon_app(content: bytes = b"NIKON APP\0" + b"<x/>" * 20) -> bytes:
    return content + struct.pack(">I", len(content) + 20) + b"\0\0\0\0\0\0/NIKON APP"


TRAILERS: dict[str, Callable[[int], bytes]] = {  # by position in the file
    "samsung": lambda _: sef([(0x0A01, b"Image_UTC_Data", b"1700000000000"), (0x0AA1, b"MCC_Data", b"262")]),
    "photo mechanic": lambda _: photo_mechanic(),
    "canon": lambda _: canon_vrd(),
    "fotostation": lambda _: fotostation((1, b"iptc"), (2, b"crop")),
    "mie": lambda _: mie(),
    "long mie": lambda _: mie(long=True),
    "insta360": lambda _: insta360(),
    "nikon": lambda _: nikon_app(),
    "afcp": lambda position: afcp({b"IPTC": b"caption", b"TEXT": b"words"}, position),
    "little-endian afcp": lambda position: afcp({b"IPTC": b"caption"}, position, "<"),
}


def mpf(pictures: list[tuple[int, int, int]], picture: bytes = JPEG) -> bytes:
    """`picture` with an index of the pictures behind it, by type, size, and place behind its end."""
    count = len(pictures) + 1
    length = 4 + 8 + 2 + 12 + 4 + 16 * count
    base = 2 + 4 + 4  # of the offsets: behind SOI, marker, length and name
    end = len(picture) + 4 + length
    entries = struct.pack(">IIIHH", 0x20030000, end, 0, 0, 0)
    for kind, size, place in pictures:
        entries += struct.pack(">IIIHH", kind, size, end + place - base, 0, 0)
    block = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0xB002, 7, len(entries), 26)
    return with_segments(segment(0xE2, b"MPF\0" + block + bytes(4) + entries), picture=picture)


CARRIED = {
    "flir": segment(0xE1, b"FLIR\0\1\0\0" + b"FFF\0" * 50),
    "parrot": segment(0xE1, b"PARROT\0II*\0" + bytes(20)),
    "casio": segment(0xE1, b"QVCI\0" + bytes(20)),
    "infiray": segment(0xE2, b"\0\0\0\1IJPEG\0" + bytes(20)),
    "kodak": segment(0xE3, b"Meta\0\0MM\0*" + bytes(20)),
    "thermal rows": segment(0xE3, bytes(range(256))),
    "stereo": segment(0xE3, b"_JPSJPS_" + bytes(20)),
    "scalado": segment(0xE4, b"SCALADO\0" + bytes(20)),
    "ricoh": segment(0xE5, b"RMETA\0" + bytes(20)),
    "gopro": segment(0xE6, b"GoPro\0DEVC" + bytes(20)),
    "dji": segment(0xE7, b"DJI-DBG\0" + bytes(20)),
    "spiff": segment(0xE8, b"SPIFF\0" + bytes(26)),
    "media jukebox": segment(0xE9, b"Media Jukebox\0<xml/>"),
    "unicode comment": segment(0xEA, b"UNICODE\0words"),
    "unknown jumbf": segment(0xEB, b"JP\0\1\0\0\0\1" + box(b"jumb", box(b"jumd", bytes(16) + b"\3other\0"))),
    "ducky": segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x3c"),
    "picture info": segment(0xEC, b"[picture info]\r\nType=C3030"),
    "adobe_cm": segment(0xED, b"Adobe_CM\0\2"),
    "graphic converter": segment(0xEF, b"Q 95"),
    "empty": segment(0xEF, b""),
}


@pytest.mark.parametrize("kind", CARRIED)
def test_segments_of_other_programs_are_carried_whole(kind: str) -> None:
    assert parts_of(with_segments(CARRIED[kind])) == JpegParts(segments=(CARRIED[kind],))


def test_carried_segments_keep_their_order() -> None:
    segments = tuple(CARRIED.values())
    assert parts_of(with_segments(*segments)).segments == segments


def test_what_the_photo_itself_holds_is_not_carried_twice() -> None:
    options = {"exif": b"Exif\0\0" + exif_block(), "xmp": HDRGM, "icc_profile": bytes(200), "comment": b"one"}
    photoshop = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0")
    content = with_segments(photoshop, segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"), picture=jpeg(**options))
    assert parts_of(content) == JpegParts()


def test_of_several_comments_all_but_the_one_that_pillow_keeps_are_carried() -> None:
    content = with_segments(segment(0xFE, b"first"), segment(0xFE, b"second"), segment(0xFE, b"third"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["comment"] == b"third"
    assert parts_of(content).segments == (segment(0xFE, b"first"), segment(0xFE, b"second"))


def test_an_earlier_xmp_packet_is_carried_upright() -> None:
    tagged = b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="%d"/>'
    content = with_segments(xmp_segment(tagged % 6), xmp_segment(HDRGM))
    assert parts_of(content, turned=True).segments == (xmp_segment(tagged % 1),)
    assert parts_of(content, turned=False).segments == (xmp_segment(tagged % 6),)


@pytest.mark.parametrize("kind", ["flir", "parrot", "infiray"])
def test_thermal_data_is_named_where_the_picture_is_turned(kind: str) -> None:
    assert parts_of(with_segments(CARRIED[kind]), turned=True) == JpegParts(left_out=(THERMAL,))


def test_thermal_data_of_dji_is_named_where_the_picture_is_turned() -> None:
    exif = Image.Exif()
    exif[0x010F] = "DJI"
    picture = jpeg(exif=exif.tobytes())
    data = [segment(0xE3, b"\x10\x20" * 300), segment(0xE4, b"\xaa\x55\x12\6" + bytes(90))]
    data += [segment(0xE5, b"\7" * 50), segment(0xE6, b"DTAT\0\0\1{}")]
    other = segment(0xE7, b"DJI-DBG\0" + bytes(9))
    content = with_segments(*data, other, picture=picture)
    assert parts_of(content, turned=False).segments == (*data, other)
    assert parts_of(content, turned=True) == JpegParts(segments=(other,), left_out=(THERMAL,))


def test_infiray_data_that_begins_with_a_picture_is_no_preview() -> None:
    segments = CARRIED["infiray"], segment(0xE3, JPEG + bytes(range(200)))
    content = with_segments(*segments)
    assert parts_of(content).segments == segments
    assert parts_of(content, turned=True) == JpegParts(left_out=(THERMAL,))


def test_layouts_are_named_where_the_picture_is_turned() -> None:
    content = with_segments(CARRIED["stereo"], CARRIED["spiff"])
    assert parts_of(content, turned=True).left_out == (
        "its stereo layout (JPS), which would not fit the turned picture",
        "its SPIFF header, which would not fit the turned picture",
    )


def test_previews_and_thumbnails_go_unsaid() -> None:
    halves = JPEG[:300], JPEG[300:600], JPEG[600:]
    in_three = [segment(0xE3, halves[0]), segment(0xE4, halves[1]), segment(0xE5, halves[2])]
    content = with_segments(
        segment(0xE0, b"JFXX\0\x10" + JPEG),
        segment(0xE2, b"QVGA\0" + JPEG),
        *in_three,
        CARRIED["gopro"],
    )
    assert parts_of(content) == JpegParts(segments=(CARRIED["gopro"],))


def test_what_follows_a_whole_preview_is_carried() -> None:
    follower = segment(0xE2, b"other data")
    assert parts_of(with_segments(segment(0xE2, JPEG), follower)).segments == (follower,)


def test_flashpix_is_carried_without_its_preview() -> None:
    contents = segment(0xE2, b"FPXR\0\0\1\0\2")
    sound = segment(0xE2, b"FPXR\0\0\2\0\0" + bytes(4) + b"sound")
    preview = [
        segment(0xE2, b"FPXR\0\0\2\0\1" + bytes(4) + bytes(28) + JPEG[:400]),
        segment(0xE2, b"FPXR\0\0\2\0\1" + struct.pack(">I", 428) + JPEG[400:]),
    ]
    assert parts_of(with_segments(contents, sound, *preview)) == JpegParts(segments=(contents, sound))


@pytest.mark.parametrize("label", [b"c2pa", b"cai"])
def test_credentials_are_named_once_however_many_segments_they_take(label: bytes) -> None:
    kind = b"c2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9bq" if label == b"c2pa" else bytes(16)
    start = box(b"jumb", box(b"jumd", kind + b"\3" + label + b"\0"))
    first = segment(0xEB, b"JP\0\1\0\0\0\1" + start)
    rest = segment(0xEB, b"JP\0\1\0\0\0\2" + start[:8] + b"more of the manifest")
    assert parts_of(with_segments(first, rest)) == JpegParts(left_out=(CREDENTIALS,))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"HDR_RI ver=11", "its JPEG-HDR data, which would not match the restored picture"),
        (
            b"JP\0\1\0\0\0\1" + box(b"RESI", bytes(9)),
            "its JPEG XT data, which would not match the restored picture",
        ),
    ],
)
def test_layers_of_more_bits_are_named(content: bytes, name: str) -> None:
    assert parts_of(with_segments(segment(0xEB, content))) == JpegParts(left_out=(name,))


def test_a_comment_between_scans_is_carried_and_metadata_there_is_named() -> None:
    progressive = jpeg(progressive=True)
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    between = segment(0xFE, b"between") + xmp_segment(HDRGM)
    content = progressive[:second_scan] + between + progressive[second_scan:] + photo_mechanic()
    parts = parts_of(content)
    assert parts.segments == (segment(0xFE, b"between"),)
    assert parts.left_out == ("metadata in the middle of its picture data",)
    assert parts.trailer == photo_mechanic()


@pytest.mark.parametrize("kind", TRAILERS)
def test_blocks_behind_the_picture_are_carried(kind: str) -> None:
    trailer = TRAILERS[kind](END)
    parts = parts_of(JPEG + trailer)
    assert parts.left_out == ()
    assert placed_trailer(parts.trailer, END) == trailer


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(sorted(TRAILERS)), max_size=5),
    segments=st.lists(st.sampled_from(sorted(CARRIED)), max_size=5),
    more=st.integers(0, 5000),
)
def test_any_blocks_in_any_order_are_carried_and_point_to_their_new_place(
    kinds: list[str], segments: list[str], more: int
) -> None:
    content = with_segments(*(CARRIED[kind] for kind in segments))

    def chain(position: int) -> bytes:
        trailer = b""
        for kind in kinds:
            trailer += TRAILERS[kind](position + len(trailer))
        return trailer

    parts = parts_of(content + chain(len(content)))
    assert parts.segments == tuple(CARRIED[kind] for kind in segments)
    assert parts.left_out == ()
    assert placed_trailer(parts.trailer, len(content) + more) == chain(len(content) + more)


def test_afcp_that_was_moved_without_its_offsets_is_found_and_mended() -> None:
    parts = parts_of(JPEG + afcp({b"IPTC": b"caption"}, 99_999))
    assert afcp_values(JPEG + placed_trailer(parts.trailer, END)) == {b"IPTC": b"caption"}


def test_afcp_keeps_bytes_that_no_entry_names() -> None:
    block = afcp({b"IPTC": b"caption"}, END)
    block = block[:-12] + b"note" + block[-12:]
    assert placed_trailer(parts_of(JPEG + block).trailer, END) == block


def test_the_preview_in_afcp_is_named_and_the_rest_is_carried() -> None:
    parts = parts_of(JPEG + afcp({b"Nail": bytes(18) + JPEG, b"IPTC": b"caption"}, END))
    assert afcp_values(bytes(50) + placed_trailer(parts.trailer, 50)) == {b"IPTC": b"caption"}
    assert parts.left_out == ("a preview in its AFCP data, which shows the photo as it was",)


def test_fotostation_loses_previews_and_what_would_not_fit_the_turned_picture() -> None:
    parts = parts_of(JPEG + fotostation((1, b"iptc"), (2, b"crop"), (3, JPEG)), turned=True)
    assert parts.trailer == fotostation((1, b"iptc"))
    assert parts.left_out == (
        "a preview in its FotoStation data, which shows the photo as it was",
        "its FotoStation crop, which would not fit the turned picture",
    )


def test_samsung_keeps_its_other_entries_without_the_video() -> None:
    time, code = (0x0A01, b"Image_UTC_Data", b"1700000000000"), (0x0AA1, b"MCC_Data", b"262")
    video = (0x0A30, b"MotionPhoto_Data", MP4), (0x0A31, b"MotionPhoto_Version", b"mpv3")
    parts = parts_of(JPEG + sef([time, *video, code]))
    assert parts == JpegParts(trailer=sef([time, code]), left_out=(VIDEO,))


def test_samsung_with_the_video_alone_leaves_nothing() -> None:
    assert parts_of(JPEG + sef([(0x0A30, b"MotionPhoto_Data", MP4)])) == JpegParts(left_out=(VIDEO,))


def test_samsung_points_to_its_sound_in_the_new_place() -> None:
    entries = [(0x0A30, b"MotionPhoto_Data", MP4), (0x0100, b"SoundShot_000", b"sound of the sea")]
    start = END + len(sef_value(*entries[0])) + 8 + len(b"SoundShot_000")
    content = JPEG + with_sound_pointer(sef(entries), start, start + 16)
    assert content[start : start + 16] == b"sound of the sea"
    parts = parts_of(content)
    file = bytes(777) + placed_trailer(parts.trailer, 777)
    first, last = struct.unpack_from("<II", file, len(file) - 18)
    assert file[first:last] == b"sound of the sea"
    assert parts.left_out == (VIDEO,)


def test_samsung_depth_maps_stay_unless_the_picture_is_turned() -> None:
    time, depth = (0x0A01, b"Image_UTC_Data", b"1700"), (0x0AB1, b"DualShot_DepthMap_1", bytes(64))
    content = JPEG + sef([time, depth])
    assert parts_of(content) == JpegParts(trailer=sef([time, depth]))
    assert parts_of(content, turned=True) == JpegParts(
        trailer=sef([time]), left_out=("its depth map, which would not fit the turned picture",)
    )


@pytest.mark.parametrize(
    "tail", [b"", bytes(40), b"v2_f33_c         1000:2000       LIVE_3650292            "]
)
def test_the_video_of_a_motion_photo_is_named(tail: bytes) -> None:
    assert parts_of(JPEG + MP4 + tail) == JpegParts(left_out=(VIDEO,))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 2**32 - 1])
def test_a_video_of_wrong_length_is_named(size: int) -> None:
    assert parts_of(JPEG + struct.pack(">I", size) + b"ftyp").left_out == (VIDEO,)


def test_a_block_behind_a_video_is_carried() -> None:
    assert parts_of(JPEG + MP4 + photo_mechanic()) == JpegParts(trailer=photo_mechanic(), left_out=(VIDEO,))


def test_a_gain_map_is_named_once() -> None:
    iso = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))
    gain_map = with_segments(xmp_segment(HDRGM), iso)
    assert parts_of(with_segments(iso) + gain_map) == JpegParts(left_out=(GAIN_MAP,))
    assert parts_of(JPEG + gain_map) == JpegParts(left_out=(GAIN_MAP,))


def test_items_behind_the_picture_are_named_as_xmp_calls_them() -> None:
    items = "".join(
        f'<c:Item i:Semantic="{semantic}"/>' for semantic in ("Primary", "Depth", "GainMap", "MotionPhoto")
    )
    xmp = (
        '<c:Directory xmlns:c="http://ns.google.com/photos/1.0/container/"'
        f' xmlns:i="http://ns.google.com/photos/1.0/container/item/">{items}</c:Directory>'
    )
    content = with_segments(xmp_segment(xmp.encode())) + JPEG + JPEG + MP4
    assert parts_of(content).left_out == ("its depth map", GAIN_MAP, VIDEO)


def test_further_pictures_are_named_with_their_number() -> None:
    assert parts_of(JPEG + JPEG).left_out == (SECOND,)
    assert parts_of(JPEG + bytes(64) + JPEG + JPEG).left_out == ("2 further pictures behind the first",)


def test_pictures_of_a_multi_picture_file_are_named_but_not_its_previews() -> None:
    disparity, preview = 0x020002, 0x010002
    padded = JPEG + b"maker's padding"
    both = mpf([(preview, len(padded), 0), (disparity, len(JPEG), len(padded))])
    assert parts_of(both + padded + JPEG).left_out == (f"{SECOND} (MPF)",)
    assert parts_of(mpf([(preview, len(JPEG), 0)]) + JPEG) == JpegParts()


def test_unknown_bytes_are_counted_and_padding_is_not() -> None:
    name = "7 bytes of an unknown kind behind the picture"
    assert parts_of(JPEG + bytes(1000)) == JpegParts()
    assert parts_of(JPEG + bytes(9) + b"unknown" + bytes(9)) == JpegParts(left_out=(name,))
    assert parts_of(JPEG + b"unknown" + MP4 + photo_mechanic()) == JpegParts(
        trailer=photo_mechanic(), left_out=(VIDEO, name)
    )
    assert parts_of(JPEG + b"?").left_out == ("1 byte of an unknown kind behind the picture",)


def test_a_sound_recording_is_named() -> None:
    sound = b"RIFF" + struct.pack("<I", 24) + b"WAVE" + bytes(20)
    assert parts_of(JPEG + sound).left_out == ("its sound recording",)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_the_end_of_the_picture_is_found(options: dict[str, object]) -> None:
    picture = jpeg(**options)
    thumbnail = segment(0xE1, b"Exif\0\0" + JPEG)  # its end is no end
    filled = picture[:2] + b"\xff\xff\xff" + picture[2:]  # fill bytes before a marker
    content = with_segments(thumbnail, picture=filled) + photo_mechanic()
    assert parts_of(content) == JpegParts(trailer=photo_mechanic())


def test_a_marker_in_damaged_data_does_not_hide_the_end() -> None:
    damaged = JPEG[:-60] + b"\xff\xe5\x70\x00\xff\xda\x01\x01" + JPEG[-52:]
    assert parts_of(damaged + photo_mechanic()).trailer == photo_mechanic()


def test_a_picture_without_its_end_ends_where_the_next_one_begins() -> None:
    assert parts_of(JPEG[:-2] + JPEG).left_out == (SECOND,)


def test_the_position_of_the_file_is_kept() -> None:
    file = io.BytesIO(JPEG)
    file.seek(17)
    read_parts(file, turned=False)
    assert file.tell() == 17


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"no JPEG", JPEG[:200]])
def test_files_without_a_picture_hold_nothing(content: bytes) -> None:
    assert parts_of(content) == JpegParts()


RICH = with_segments(*CARRIED.values(), picture=mpf([(0x020002, END, 0)])) + JPEG + MP4
RICH += sef([(0x0A30, b"MotionPhoto_Data", MP4), (0x0100, b"SoundShot_000", b"sound")])
RICH += b"".join(make(len(RICH)) for make in TRAILERS.values())


@settings(deadline=None, max_examples=300)
@given(
    cut=st.integers(0, len(RICH)),
    changes=st.lists(st.tuples(st.integers(0, len(RICH) - 1), st.integers(0, 255)), max_size=20),
    turned=st.booleans(),
)
def test_damaged_files_raise_nothing(cut: int, changes: list[tuple[int, int]], turned: bool) -> None:
    content = bytearray(RICH)
    for place, value in changes:
        content[place] = value
    for damaged in (bytes(content[:cut]), JPEG + bytes(content[cut:])):
        parts = parts_of(damaged, turned=turned)
        placed_trailer(parts.trailer, cut)


STARTS = [
    b"\xff\xd8\xff\xe0\0\2",
    b"\xff\xda\0\2",
    b"\xff\xd9",
    b"\0\0\0\4ftyp",
    b"\0\0\0\x08ftyp",
    b"RIFF\0\0\0\0WAVE",
]


@settings(deadline=None, max_examples=300)
@given(
    trailer=st.lists(st.sampled_from(STARTS) | st.binary(max_size=20), max_size=12).map(b"".join),
    tail=st.sampled_from([b"", *(make(END)[-40:] for make in TRAILERS.values())]),
)
def test_bytes_behind_the_picture_are_carried_or_named(trailer: bytes, tail: bytes) -> None:
    parts = parts_of(JPEG + trailer + tail)
    placed_trailer(trailer + tail, END)
    assert parts.trailer or parts.left_out or not (trailer + tail).strip(b"\0")


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("marker", [0xD8, 0xC3])
def test_a_lossless_jpeg_keeps_and_names_what_any_other_does(tmp_path, orientation, marker):
    """Wherever its segments stand: at its start, or between the header of its frame and its scan."""
    exif = segment(0xE1, b"Exif\0\0" + exif_block(orientation))
    segments = [exif, xmp_segment(XMP), segment(0xFE, b"first"), segment(0xFE, b"last")]
    segments += [segment(0xE1, b"FLIR\0" + bytes(range(40))), segment(0xE9, b"other")]
    segments += [segment(0xEB, b"JP\0\1\0\0\0\1" + box(b"jumb", box(b"jumd", bytes(16) + b"\3c2pa\0")))]
    behind = MP4 + JPEG + photo_mechanic() + sef([(0x0A01, b"Image_UTC_Data", b"1700000000000")])
    lossless = bytes(imagecodecs.jpeg8_encode(smooth_pixels(40, 56), lossless=True))
    start = lossless.index(bytes([0xFF, marker])) + 2
    start += 0 if marker == 0xD8 else int.from_bytes(lossless[start : start + 2], "big")
    usual = tmp_path / "usual.jpg"
    usual.write_bytes(with_segments(*segments) + behind)
    rare = tmp_path / "rare.jpg"
    rare.write_bytes(lossless[:start] + b"".join(segments) + lossless[start:] + behind)
    expected, photo = decode(usual), decode(rare)
    assert (expected.format, photo.format, photo.orientation) == ("JPEG", "LJPEG", orientation)
    assert photo.metadata == expected.metadata
    assert photo.left_out == expected.left_out != ()
    assert photo.metadata.jpeg_trailer and len(photo.metadata.jpeg_segments) == (3 if orientation == 1 else 2)
