"""Places that metadata name lie where the picture has them once it is turned upright."""

import struct
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import exif_tags, file_bytes, smooth_pixels, to_pillow
from photo_raw import make_dng, quarters

from deblur_cli.photo import exif
from deblur_cli.photo.decode import decode
from deblur_cli.photo.exif import Directories, Value
from deblur_cli.photo.places import CROP_LOST, PLACES_LOST, turn_places
from deblur_cli.photo.samples import turn_upright

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "area": "http://ns.adobe.com/xmp/sType/Area#",
    "dim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "mp": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "pages": "http://ns.adobe.com/xap/1.0/t/pg/",
}
sides = st.integers(4, 12)


def packet(content):
    declared = "".join(f" xmlns:{prefix}='{namespace}'" for prefix, namespace in NAMESPACES.items())
    return f"<x:xmpmeta{declared}><rdf:RDF>{content}</rdf:RDF></x:xmpmeta>".encode()


@st.composite
def boxes(draw):
    """Width and height of a picture, and left, top, right, and bottom of a part with a center pixel."""
    width, height = draw(sides), draw(sides)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return width, height, left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))


def turned_box(width, height, left, top, right, bottom, orientation):
    """The reference: the part is painted, the picture turned, and the part looked for."""
    picture = np.zeros((height, width), np.uint8)
    picture[top:bottom, left:right] = 1
    picture = turn_upright(picture, orientation)
    rows, columns = np.nonzero(picture)
    return *picture.shape[::-1], columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def shares(width, height, left, top, right, bottom):
    return [
        Decimal(int(value)) / int(side)
        for value, side in zip((left, top, right, bottom), (width, height) * 2, strict=True)
    ]


def area(box, form):
    left, top, right, bottom = shares(*box)
    values = {"x": (left + right) / 2, "y": (top + bottom) / 2, "w": right - left, "h": bottom - top}
    if form == "attributes":
        inner = "".join(f" area:{name}='{value}'" for name, value in values.items())
        return f"<rs:Area{inner} area:unit='normalized'/>"
    inner = "".join(f"<area:{name}>{value}</area:{name}>" for name, value in values.items())
    return f"<rs:Area rdf:parseType='Resource'>{inner}</rs:Area>"


def everything(box, form):
    """All that is turned, of a picture with this part."""
    width, height, *_ = box
    left, top, right, bottom = shares(*box)
    crop = {"Top": top, "Left": left, "Bottom": bottom, "Right": right}
    pairs = "".join(
        f"<exif:Pixel{axis}Dimension>{side}</exif:Pixel{axis}Dimension>"
        for axis, side in (("X", width), ("Y", height))
    )
    return (
        f"<rdf:Description tiff:ImageWidth='{width}' tiff:ImageLength='{height}' "
        + " ".join(f"crs:Crop{side}='{value}'" for side, value in crop.items())
        + f" crs:CropAngle='0'>{pairs}"
        f"<rs:AppliedToDimensions dim:w='{width}' dim:h='{height}' dim:unit='pixel'/>"
        f"<rdf:li>{area(box, form)}</rdf:li><rdf:li>{area(box, form)}</rdf:li>"
        f"<mp:Rectangle>{left}, {top}, {right - left}, {bottom - top}</mp:Rectangle>"
        "<pages:MaxPageSize dim:w='7' dim:h='9'/></rdf:Description>"
    )


def numbers(xmp):
    """The packet as words and numbers, the latter without rounding in the last places."""
    words = xmp.decode().replace("'", " ").replace("<", " ").replace(">", " ").replace(",", " ").split()
    return [round(float(word), 9) if word[0].isdigit() else word for word in words]


@settings(deadline=None, max_examples=60)
@given(box=boxes(), orientation=st.integers(1, 8), form=st.sampled_from(["attributes", "elements"]))
def test_places_in_xmp_are_turned_like_the_picture(box, orientation, form):
    turned, lost = turn_places(packet(everything(box, form)), orientation, box[:2])
    assert numbers(turned) == numbers(packet(everything(turned_box(*box, orientation), form)))
    assert lost == ()


@settings(deadline=None, max_examples=60)
@given(
    box=boxes(),
    orientation=st.integers(1, 8),
    order=st.sampled_from("<>"),
    named=st.booleans(),
    count=st.integers(2, 4),
)
def test_the_subject_is_turned_like_the_picture(box, orientation, order, named, count):
    width, height, left, top, right, bottom = box

    def block(width, height, left, top, right, bottom, orientation):
        def shorts(*values):
            return Value(3, struct.pack(f"{order}{len(values)}H", *values))

        subject = (left, top, *((), (5,), (right - left, bottom - top))[count - 2])
        exposure = {0x9214: shorts(*subject), 0xA214: shorts(left, top)}
        exposure |= {0xA002: shorts(width), 0xA003: shorts(height)} if named else {}
        return exif.build(Directories(order, {0x0112: shorts(orientation)}, exposure))

    pixel = turned_box(width, height, left, top, left + 1, top + 1, orientation)
    across, down = (right - left, bottom - top)[:: -1 if orientation >= 5 else 1]
    expected = block(*pixel[:4], pixel[2] + across, pixel[3] + down, 1)
    assert exif.mark_upright(block(*box, orientation), (width, height)) == expected
    seq = "<exif:{0}><rdf:Seq><rdf:li>{1}</rdf:li><rdf:li>{2}</rdf:li></rdf:Seq></exif:{0}>"
    xmp = packet(seq.format("SubjectLocation", left, top))
    assert turn_places(xmp, orientation, (width, height))[0] == packet(
        seq.format("SubjectLocation", *pixel[2:4])
    )


def test_the_subject_of_camera_raw_is_turned_like_its_picture(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(make_dng(quarters(), orientation=6, further={37396: ("H", [10, 20, 30, 40])}))
    exposure = exif_tags(decode(path).metadata.exif)["exposure"]
    assert exposure[37396] == (64 - 1 - 20, 10, 40, 30)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (
            "<a crs:CropLeft='.1' crs:CropTop='0' crs:CropRight='1' crs:CropBottom='1' crs:CropAngle='3'/>",
            CROP_LOST,
        ),
        ("<a><crs:CropLeft>.1</crs:CropLeft></a>", CROP_LOST),
        ("<a area:x='9' area:y='8' area:unit='pixel'/>", PLACES_LOST),
        ("<a><mp:Rectangle>left of the lake</mp:Rectangle></a>", PLACES_LOST),
    ],
)
def test_places_that_cannot_be_turned_go_by_name(tmp_path, content, phrase):
    left = "<a></a>" if "</" in content.removesuffix("</a>") else "<a/>"
    assert turn_places(packet(content), 6, (8, 6)) == (packet(left), (phrase,))
    for orientation in (1, 6):
        block = exif.build(Directories("<", {0x0112: Value(3, struct.pack("<H", orientation))}))
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(
            file_bytes(to_pillow(smooth_pixels(8, 8)), "JPEG", exif=b"Exif\0\0" + block, xmp=packet(content))
        )
        assert decode(path).left_out == (() if orientation == 1 else (phrase,))
