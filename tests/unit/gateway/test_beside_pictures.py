"""What codestreams carry besides the picture: it is blanked in place, and the picture stays."""

import io
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Iterator

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, itemize_fragment
from pydicom.uid import ExplicitVRLittleEndian

from dicomweb.pixels import codecs, transcode
from gateway.deid.engine import Deidentifier
from gateway.deid.policy import Refusal
from gateway.deid.profile import Profile
from gateway.deid.vault import Vault
from gateway.intake.codestreams import Codestreams, blanked
from gateway.intake.elements import Elements
from gateway.intake.pixels import UNDEFINED, PixelElement, PixelScan
from gateway.intake.source import ByteSource, Short
from gateway.intake.taking import IngestLimits, Taking, Treatment
from tests.unit.deid.objects import KEY, header
from tests.unit.deid.passage import element, file, profile_of

codecs.register()
SECRET = b"ZEBRAFISH^OTTOKAR 19610423"
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS, J2K, HTJ2K, RLE = (
    f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.51", "4.55", "4.70", "4.80", "4.90", "4.201", "5")
)
END = b"\xfe\xff\xdd\xe0\0\0\0\0"
PIXELS = np.random.default_rng(5).integers(0, 255, (48, 40), np.uint8).cumsum(1, np.uint64).astype(np.uint8)


def jpeg(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def extended() -> bytes:
    """Twelve bits: SOF1."""
    return imagecodecs.jpeg8_encode(PIXELS.astype(np.uint16) << 4, bitspersample=12, level=90)


PLAIN: dict[str, Callable[[], bytes]] = {
    BASELINE: jpeg,
    EXTENDED: extended,
    PROGRESSIVE: lambda: jpeg(progressive=True),
    LOSSLESS: lambda: imagecodecs.ljpeg_encode(PIXELS),
    JPEG_LS: lambda: imagecodecs.jpegls_encode(PIXELS),
    J2K: lambda: imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, codecformat="j2k"),
    HTJ2K: lambda: imagecodecs.htj2k_encode(PIXELS),
}


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def spoken(syntax: str) -> bytes:
    """A codestream that names a person wherever it can."""
    plain = PLAIN[syntax]().rstrip(b"\0")
    text = SECRET + b"\xff\xd8\xff\xda\xff\xd9" + SECRET  # markers in a segment are none
    if syntax in (J2K, HTJ2K):
        at = plain.index(b"\xff\x90\0\x0a")
        size = struct.unpack_from(">L", plain, at + 6)[0]
        comment = segment(0x64, b"\0\1" + text)
        tile = plain[at : at + 6] + struct.pack(">L", size and size + len(comment)) + plain[at + 10 : at + 12]
        return plain[:at] + comment + segment(0x65, text) + tile + comment + plain[at + 12 :] + SECRET
    words = [segment(marker, text) for marker in (0xFE, 0xE0, 0xE1, 0xE2, 0xE8, 0xED, 0xEE, 0xEF)]
    adobe = segment(0xEE, b"Adobe\0d\0\0\0\0\0" + text)
    thumbnail = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\4\1" + SECRET[:12])
    later = plain.rindex(b"\xff\xda")
    return plain[:2] + thumbnail + adobe + b"".join(words) + plain[2:later] + words[0] + plain[later:] + SECRET


def value(*fragments: bytes) -> bytes:
    return b"".join(map(itemize_fragment, (b"", *[one + b"\0" * (len(one) % 2) for one in fragments]))) + END


def passed(data: bytes, sizes: list[int], syntax: str) -> bytes:
    """A value as it leaves, in pieces of these sizes, over and over."""
    codestreams = Codestreams(syntax)
    scan, made, at, turn = PixelScan(PixelElement(0x7FE00010, "OB", UNDEFINED), codestreams), [], 0, 0
    while not scan.done:
        piece = data[at : at + sizes[turn % len(sizes)]]
        assert piece
        used = scan.feed(piece)
        cuts, codestreams.cuts = codestreams.cuts, []
        made.append(bytes(blanked(piece[:used], cuts)))
        at, turn = at + used, turn + 1
    return b"".join(made)


def decoded(frame: bytes, syntax: str) -> np.ndarray:
    ds = header()
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *PIXELS.shape, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if syntax == EXTENDED:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    return transcode.decode(ds, syntax, frame, rgb=False)[0]


def split(data: bytes, at: int) -> tuple[bytes, bytes]:
    return data[: at // 2 * 2], data[at // 2 * 2 :]


@pytest.mark.parametrize("syntax", PLAIN)
def test_text_goes_and_the_picture_stays(syntax):
    said = spoken(syntax)
    data = value(said, said)
    made = passed(data, [1 << 20], syntax)
    assert SECRET in data
    assert b"ZEBRA" not in made
    assert len(made) == len(data)
    frame = made[16 : 16 + len(said)]
    expected = decoded(PLAIN[syntax](), syntax)
    assert np.ptp(expected) > 100
    assert np.array_equal(decoded(frame, syntax), expected)
    assert passed(made, [1 << 20], syntax) == made, "what was blanked once stays as it is"


@pytest.mark.parametrize("syntax", PLAIN)
def test_pieces_end_anywhere(syntax):
    data = value(spoken(syntax))
    whole = passed(data, [1 << 20], syntax)
    for size in range(1, 40):
        assert passed(data, [size], syntax) == whole
    for cut in range(1, len(data) - 1):
        assert passed(data, [cut, len(data)], syntax) == whole


@pytest.mark.parametrize("syntax", PLAIN)
def test_codestreams_span_fragments(syntax):
    said = spoken(syntax)
    frame = passed(value(said), [1 << 20], syntax)[16 : 16 + len(said)]
    for at in range(2, len(said) - len(SECRET), 2):
        if said[at : at + 2] in (b"\xff\xd8", b"\xff\x4f"):
            continue
        made = passed(value(*split(said, at)), [7, 1 << 20], syntax)
        assert made[16 : 16 + at] + made[24 + at : 24 + len(said)] == frame


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PLAIN)), st.lists(st.integers(1, 90), min_size=1, max_size=5), st.data())
def test_nothing_of_it_is_left_however_it_comes(syntax, sizes, drawn):
    said = spoken(syntax)
    cuts = sorted(drawn.draw(st.sets(st.integers(1, len(said) // 2 - len(SECRET)), max_size=4)))
    bounds = [0, *(2 * cut for cut in cuts), len(said)]
    try:
        made = passed(value(*(said[start:end] for start, end in itertools.pairwise(bounds))), sizes, syntax)
    except Refusal as refusal:  # a fragment that begins like a codestream
        made = refusal.message.encode()
    assert b"ZEBRA" not in made


@pytest.mark.parametrize("syntax", PLAIN)
def test_what_decoders_need_stays(syntax):
    plain = PLAIN[syntax]()
    needed = [b"JFIF\0\1\1\0\0\1\0\1\0\0"] if syntax in (BASELINE, PROGRESSIVE) else []
    made = passed(value(plain), [1 << 20], syntax)
    assert all(one in made for one in needed)
    color = (
        segment(0xE8, b"mrfx\1")
        + segment(0xE8, b"SPIFF\0" + bytes(range(1, 25)))
        + segment(0xEE, b"Adobe\0d\0\0\0\0\1")
    )
    if syntax not in (J2K, HTJ2K):
        assert color in passed(value(plain[:2] + color + plain[2:]), [3], syntax)


def test_boxes_around_a_codestream_are_blanked():
    whole = imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, codecformat="jp2")
    at = whole.index(b"jp2c") - 4
    xml = struct.pack(">L4s", 8 + len(SECRET), b"xml ") + SECRET
    large = struct.pack(">L4sQ", 1, b"uuid", 16 + len(SECRET)) + SECRET
    said = whole[:at] + xml + large + whole[at:].rstrip(b"\0") + xml
    for size in (1, 5, 1 << 20):
        made = passed(value(said), [size], J2K)
        assert b"ZEBRA" not in made
        assert np.array_equal(decoded(made[16 : 16 + len(said)], J2K), PIXELS)


def test_a_frame_that_was_cut_short_takes_nothing_of_the_next():
    frame = PLAIN[J2K]()
    short = frame[: len(frame) // 2 // 2 * 2]
    made = passed(value(short, frame), [9], J2K)
    at = 24 + len(short)
    assert np.array_equal(decoded(made[at : at + len(frame)], J2K), PIXELS)
    frame = PLAIN[BASELINE]()
    short = frame[: len(frame) * 3 // 4 // 2 * 2]
    made = passed(value(short, frame), [9], BASELINE)
    assert made == value(short, frame)


@pytest.mark.parametrize(
    ("syntax", "fragments"),
    [
        (BASELINE, [b"\xff\xd8\xff\xfe\xff\x00" + SECRET]),  # a comment that goes on behind the end
        (BASELINE, [b"\xff\xd8\xff\xfe\x02\x00" + SECRET, b"\xff\xd8" + bytes(600)]),
        (J2K, [b"\xff\x4f\xff\x64\x02\x00\0\1" + SECRET, b"\xff\x4f\xff\x51" + bytes(600)]),
        (BASELINE, [b"\xff\xd8\xff\xfe\0\1" + SECRET]),
        (BASELINE, [b"\xff\xd8" + SECRET + b"\xff\xd9"]),
        (J2K, [b"\xff\x4f" + SECRET + b"\xff\xd9"]),
        (BASELINE, [jpeg() + jpeg()]),  # of which decoders see the first
        (BASELINE, [jpeg() + b"\0" * (len(jpeg()) % 2), SECRET]),
        (BASELINE, [b"\0\0" + SECRET]),
        (BASELINE, [SECRET]),
        ("1.2.840.10008.1.2.4.102", [b"\0\0\0\x18ftypmp42" + SECRET]),
        ("1.2.840.10008.1.2.4.100", [b"\0\0\1\xb3" + SECRET]),
        ("1.2.840.10008.1.2.4.110", [b"\0\0\0\x0cJXL \r\n\x87\n" + SECRET]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_what_contradicts_itself_or_is_unknown_is_refused(syntax, fragments, size):
    with pytest.raises(Refusal) as refused:
        passed(value(*fragments), [size], syntax)
    assert "ZEBRA" not in refused.value.message


@pytest.mark.parametrize(
    ("syntax", "fragments"),
    [
        (RLE, [b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\x02abc"]),
        (BASELINE, [jpeg() + b"\0" * (len(jpeg()) % 2), b"", b"\0\0", b"\0\0\0\0"]),
        (BASELINE, []),
    ],
)
def test_what_is_left_as_it_is(syntax, fragments):
    assert passed(value(*fragments), [5], syntax) == value(*fragments)


class Taken:
    """A file that was taken in."""

    def __init__(self, deidentifier: Deidentifier, raw: bytes, size: int = 1 << 20) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(raw), size):
                yield raw[start : start + size]

        source = ByteSource(pieces(), max_bytes=1 << 28)
        treatment = Treatment(deidentifier, Elements(), KEY, IngestLimits(1 << 28, 1 << 26), Vault(bytes(32)))
        taking, made, wanted = Taking(source, treatment, None), [], size
        while not taking.done:
            with pytest.raises(StopIteration):
                source.fill(wanted).send(None)
            try:
                made += taking.advance()
                wanted = source.held + size
            except Short as short:
                wanted = short.needed
        self.raw, self.frames, self.digests = b"".join(made), taking.frames, taking.digests


def made_file(syntax: str, *fragments: bytes) -> bytes:
    ds = header()
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *PIXELS.shape, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.NumberOfFrames = len(fragments)
    return file(ds, (0x7FE00010, element(0x7FE00010, "OB", value(*fragments), length=UNDEFINED)), syntax=syntax)


@pytest.mark.parametrize("syntax", [BASELINE, JPEG_LS, J2K])
def test_instances_are_the_same_when_they_come_again(syntax):
    said = spoken(syntax)
    raw, other = (made_file(syntax, said, one) for one in (said, said.replace(b"OTTOKAR", b"OTTILIE")))
    first, again, third = (Taken(profile_of(), data, size) for data, size in ((raw, 1 << 20), (raw, 100), (other, 999)))
    assert b"ZEBRA" not in first.raw
    assert first.raw == again.raw == third.raw
    assert first.digests.received == again.digests.received != third.digests.received
    assert first.digests.stored == again.digests.stored == third.digests.stored
    assert first.digests.checksum == again.digests.checksum
    assert first.digests.received != first.digests.stored
    frames = [b"".join(first.raw[at : at + size] for at, size in first.frames.ranges(number)) for number in (1, 2)]
    assert [np.array_equal(decoded(one, syntax), decoded(PLAIN[syntax](), syntax)) for one in frames] == [True, True]
    assert first.frames.lengths == tuple(len(one) + len(one) % 2 for one in (said, said))


def test_what_was_stored_is_the_same_as_what_is_stored():
    first = Taken(profile_of(), made_file(J2K, spoken(J2K)))
    kept = Taken(Deidentifier(Profile(name="none", title="None", deidentify=False), KEY), first.raw)
    assert kept.digests.received == first.digests.stored


@pytest.mark.parametrize("syntax", PLAIN)
def test_without_deidentification_nothing_changes(syntax):
    kept = Taken(
        Deidentifier(Profile(name="none", title="None", deidentify=False), KEY), made_file(syntax, spoken(syntax))
    )
    assert value(spoken(syntax)) in kept.raw


def test_real_pictures_stay(data_folder):
    """Each transfer syntax, and files that are malformed: what could be decoded is decoded to the same."""
    seen = 0
    for path in sorted((data_folder / "transfer-syntaxes").glob("*.dcm")):
        ds = dcmread(path, force=True)
        syntax = ds.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
        if not codecs.can_decode(syntax) or not ds["PixelData"].is_undefined_length:
            continue
        data = ds.PixelData + END
        made = passed(data, [4096, 1, 77], syntax)
        assert len(made) == len(data)
        before = list(_frames(ds))
        ds.PixelData = made[: -len(END)]
        assert all(np.array_equal(one, other) for one, other in zip(before, _frames(ds), strict=True)), path.name
        seen += 1
    assert seen > 25


def _frames(ds: Dataset) -> Iterator[np.ndarray]:
    count = int(ds.get("NumberOfFrames") or 1)
    for frame in generate_frames(ds.PixelData, number_of_frames=count):
        yield transcode.decode(ds, ds.file_meta.TransferSyntaxUID, frame, rgb=False)[0]
