import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.photo.xmp import BrokenXmpError, item_semantics, upright_xmp

TIFF = "http://ns.adobe.com/tiff/1.0/"
CAMERA = "http://ns.google.com/photos/1.0/camera/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
ITEM = "http://ns.google.com/photos/1.0/container/item/"
HDRGM = "http://ns.adobe.com/hdr-gain-map/1.0/"
APPLE = "http://ns.apple.com/HDRGainMap/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

POINTERS = [
    (HDRGM, "Version"),
    (HDRGM, "GainMapMax"),
    (APPLE, "HDRGainMapVersion"),
    (CAMERA, "MotionPhoto"),
    (CAMERA, "MotionPhotoPresentationTimestampUs"),
    (CAMERA, "MicroVideoOffset"),
    (CONTAINER, "Directory"),
    ("http://ns.google.com/photos/dd/1.0/container/", "Directory"),
    ("http://ns.xiaomi.com/photos/1.0/camera/", "XMPMeta"),
    ("http://ns.oplus.com/photos/1.0/camera/", "MotionPhotoOwner"),
    ("http://ns.oplus.com/photos/1.0/camera/", "OLivePhotoVersion"),
    ("http://ns.oplus.com/photos/1.0/camera/", "VideoLength"),
    ("http://ns.vivo.com/photos/1.0/camera/", "VMotionPhotoVersion"),
]
OTHERS = [
    ("http://ns.adobe.com/xap/1.0/", "Rating"),
    (CAMERA, "BurstID"),
    ("http://example.com/", "MotionPhoto"),
    ("http://ns.google.com/photos/1.0/depthmap/", "Data"),
]


def packet(attributes: str = "", content: str = "", namespaces: str = "") -> bytes:
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?><!-- > -->"
        f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\r\n<r:RDF xmlns:r='{RDF}'>"
        f'<r:Description r:about=""{namespaces}{attributes}  >{content}</r:Description>'
        f"</r:RDF></x:xmpmeta>\n{' ' * 50}<?xpacket end='w'?>"
    ).encode()


def declared(prefix: str, namespace: str) -> str:
    return f' xmlns:{prefix}="{namespace}"'


@pytest.mark.parametrize(("namespace", "name"), POINTERS)
def test_pointers_go_in_any_form(namespace: str, name: str) -> None:
    names = declared("p", namespace)
    bare = packet(namespaces=names)
    value = "&lt;1&gt; é"
    forms = [
        f"<p:{name}>{value}</p:{name}>",
        f"<p:{name}/>",
        f"<p:{name} r:resource='>'></p:{name}\n>",
        f"<p:{name}><r:Seq><r:li r:parseType='Resource'><p:{name}>1</p:{name}></r:li></r:Seq></p:{name}>",
        f'<q:{name} xmlns:q="{namespace}">{value}</q:{name}>',
        f'<{name} xmlns="{namespace}"><![CDATA[</{name}>]]></{name}>',
    ]
    for form in forms:
        assert upright_xmp(packet(content=form, namespaces=names), turned=False) == bare
    for quoted in (f' p:{name}="{value}"', f"\n\tp:{name} = '\">'"):
        assert upright_xmp(packet(quoted, namespaces=names), turned=False) == bare


@pytest.mark.parametrize(("namespace", "name"), OTHERS)
def test_other_entries_stay(namespace: str, name: str) -> None:
    names = declared("p", namespace) + declared("MotionPhoto", HDRGM)
    xmp = packet(f" p:{name}='1'", f"<p:{name}>1</p:{name}>", names)
    assert upright_xmp(xmp, turned=True) == xmp


def test_an_element_goes_from_between_its_neighbors() -> None:
    names = declared("g", CAMERA) + declared("k", "http://example.com/")
    kept = "<k:a g:BurstID='1'/><k:b>\n</k:b>", "<k:c><k:d/></k:c>"
    pointers = "<g:MotionPhoto><k:e/></g:MotionPhoto><g:MicroVideo/>"
    xmp = packet(content=pointers.join(kept), namespaces=names)
    assert upright_xmp(xmp, turned=True) == packet(content="".join(kept), namespaces=names)


ORIENTATIONS = [
    (" t:Orientation='{}'", ""),
    ('\n t:Orientation = " {} "', ""),
    ("", "<t:Orientation>{}</t:Orientation>"),
    ("", "<t:Orientation>\n {}\n</t:Orientation>"),
    ("", "<o:Orientation xmlns:o='http://ns.adobe.com/tiff/1.0/'>{}</o:Orientation>"),
    ("", "<t:Orientation r:value='{}'/>"),
    ("", "<t:Orientation r:parseType='Resource'><r:value>{}</r:value><k:by>7</k:by></t:Orientation>"),
    ("", "<t:Orientation><r:Description k:by='7'><r:value>{}</r:value></r:Description></t:Orientation>"),
]
NAMES = declared("t", TIFF) + declared("k", "http://example.com/")


@pytest.mark.parametrize(("attribute", "content"), ORIENTATIONS)
@pytest.mark.parametrize("value", range(10))
def test_an_orientation_becomes_upright_in_any_form(attribute: str, content: str, value: int) -> None:
    xmp = packet(attribute.format(value), content.format(value), NAMES)
    upright = packet(attribute.format(1), content.format(1), NAMES)
    assert upright_xmp(xmp, turned=True) == (upright if 2 <= value <= 8 else xmp)
    assert upright_xmp(xmp, turned=False) == xmp


@pytest.mark.parametrize("written", ["&#54;", "<![CDATA[6]]>", "<!-- 6 -->6"])
def test_an_orientation_becomes_upright_however_its_digit_is_written(written: str) -> None:
    xmp = packet(content=f"<t:Orientation>{written}</t:Orientation>", namespaces=NAMES)
    upright = packet(content="<t:Orientation>1</t:Orientation>", namespaces=NAMES)
    assert upright_xmp(xmp, turned=True) == upright


def test_orientations_of_other_namespaces_stay() -> None:
    content = "<k:Orientation>6</k:Orientation><t:Other r:value='6'>6</t:Other>"
    xmp = packet(" k:Orientation='6'", content, NAMES)
    assert upright_xmp(xmp, turned=True) == xmp


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf16_stays_utf16(codec: str, mark: str) -> None:
    tagged, upright = (packet(f" t:Orientation='{value}'", "é", NAMES).decode() for value in (6, 1))
    assert upright_xmp((mark + tagged).encode(codec), turned=True) == (mark + upright).encode(codec)


def test_padding_behind_a_packet_stays() -> None:
    xmp = packet(" t:Orientation='8'", "", NAMES) + bytes(3)
    assert upright_xmp(xmp, turned=True) == packet(" t:Orientation='1'", "", NAMES) + bytes(3)


BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10) for name in b"bcdefghijk"
)


@pytest.mark.parametrize(
    "xmp",
    [
        b"",
        b"no XML",
        b"<a>",
        b"<a></b>",
        b"<a b:c='1'/>",
        b"<a/><a/>",
        b"\xff\xfe<\0a",
        b"<a>\xff</a>",
        b"<?xml version='1.0' encoding='klingon'?><a/>",
        b"<?xml version='1.0' encoding='shift_jis'?><a/>",
        BOMB + b"]><a>&k;</a>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
    ],
)
def test_what_cannot_be_followed_is_refused(xmp: bytes) -> None:
    with pytest.raises(BrokenXmpError):
        upright_xmp(xmp, turned=True)
    assert item_semantics(xmp) == ()


def test_latin_1_stays_latin_1() -> None:
    xmp = f"<?xml version='1.0' encoding='iso-8859-1'?><é xmlns:t='{TIFF}' ü='ö' t:Orientation='6'/>"
    upright = xmp.replace("'6'", "'1'").encode("latin-1")
    assert upright_xmp(xmp.encode("latin-1"), turned=True) == upright


@pytest.mark.parametrize(
    "items",
    [
        "<c:Item i:Semantic='Primary'/><c:Item i:Mime='image/jpeg' i:Semantic='Depth'/>",
        "<c:Item><i:Semantic>Primary</i:Semantic></c:Item>"
        "<c:Item><i:Semantic>De<!-- -->pth</i:Semantic></c:Item>",
    ],
)
def test_items_behind_the_picture_are_read_in_order(items: str) -> None:
    names = declared("c", CONTAINER) + declared("i", ITEM)
    xmp = packet(content=f"<c:Directory>{items}</c:Directory>", namespaces=names)
    assert item_semantics(xmp) == ("Primary", "Depth")


PREFIX = st.from_regex(r"[a-w][a-zA-Z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda prefix: prefix != "r" and not prefix.lower().startswith("xml")
)
VALUE = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="<&'\"]"), max_size=20)


@settings(deadline=None)
@given(
    prefixes=st.lists(PREFIX, min_size=2, max_size=2, unique=True),
    entries=st.lists(
        st.tuples(st.booleans(), st.booleans(), VALUE, st.sampled_from(POINTERS), st.sampled_from(OTHERS)),
        max_size=12,
    ),
)
def test_all_but_the_pointers_stays_byte_for_byte(
    prefixes: list[str], entries: list[tuple[bool, bool, str, tuple[str, str], tuple[str, str]]]
) -> None:
    """Each entry is a pointer or not, nested or not, with any value; the packet is built with and without."""
    prefix, inner = prefixes
    whole, kept = "", ""
    for is_pointer, is_nested, value, pointer, other in entries:
        namespace, name = pointer if is_pointer else other
        names = declared(prefix, namespace) + declared(inner, "http://example.com/")
        element = f"<{prefix}:{name}{names} {inner}:x='{value}'>{value}</{prefix}:{name} >"
        around = (f"<{inner}:b {names}>", f"</{inner}:b>") if is_nested else ("", "")
        whole += element.join(around)
        kept += ("" if is_pointer else element).join(around)
    assert upright_xmp(packet(content=whole), turned=True) == packet(content=kept)


RICH = packet(
    " t:Orientation='6' g:MotionPhoto='1'",
    "<t:Orientation>3</t:Orientation><g:MicroVideo>1</g:MicroVideo><k:a>&amp;</k:a>",
    NAMES + declared("g", CAMERA),
)


@settings(deadline=None, max_examples=300)
@given(
    cut=st.integers(0, len(RICH)),
    changes=st.lists(st.tuples(st.integers(0, len(RICH) - 1), st.integers(0, 255)), max_size=3),
)
def test_damaged_packets_are_refused_or_only_cut(cut: int, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(RICH)
    for place, value in changes:
        damaged[place] = value
    for xmp in (bytes(damaged), bytes(damaged[:cut])):
        item_semantics(xmp)
        try:
            result = upright_xmp(xmp, turned=True)
        except BrokenXmpError:
            continue
        assert len(result) <= len(xmp)
        assert upright_xmp(result, turned=True) == result


def test_deep_nesting_does_no_harm() -> None:
    xmp = b"<a>" * 50_000 + b"</a>" * 50_000
    assert upright_xmp(xmp, turned=True) == xmp
