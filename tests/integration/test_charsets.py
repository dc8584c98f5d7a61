"""Every character set reads right in searches and metadata, and leaves as UTF-8."""

import json
from io import BytesIO
from urllib.parse import quote

import pydicom
import pytest
from pydicom.uid import generate_uid

from gateway.archive import Source
from tests.dicomweb_support import bodies
from tests.samples import ct, part10, stream

WHO = ("Alphabetic", "Ideographic", "Phonetic")
#: The names of patients as the files mean them, group by group, and a part of one in another case, width or form.
NAMES = {
    "chrarab": (["قباني^لنزار"], "*نزار"),
    "chrfren": (["Buc^Jérôme"], "bUC^JÉRÔ*"),
    "chrfrenmulti": (["Buc^Jérôme"], "Buc^Je\u0301ro\u0302me"),
    "chrgb2312": (["Zhang^XiaoDong", "张^小东"], "张^*"),
    "chrgerm": (["Äneas^Rüdiger"], "*RÜDIGER"),
    "chrgreek": (["Διονυσιος"], "διονυσιοσ"),
    "chrh31": (["Yamada^Tarou", "山田^太郎", "やまだ^たろう"], "やまだ*"),
    "chrh32": (["ﾔﾏﾀﾞ^ﾀﾛｳ", "山田^太郎", "やまだ^たろう"], "ヤマダ^タロウ"),
    "chrhbrw": (["שרון^דבורה"], "שרון*"),
    "chri2": (["Hong^Gildong", "洪^吉洞", "홍^길동"], "\u1112\u1169\u11bc^*"),
    "chrruss": (["Люкceмбypг"], "ЛЮК*"),
    "chrx1": (["Wang^XiaoDong", "王^小東"], "wang^xiaodong=王^小東"),
    "chrx2": (["Wang^XiaoDong", "王^小东"], "*=王^?东"),
    "chrjapmulti": (["やまだ^たろう"], "*たろう"),
    "chrjapmultiexplicitir6": (["やまだ^たろう"], "やまだ^たろう"),
    "chrkoreanmulti": (["김희중"], "김*"),
    "made-greek-utf8-tags": (["Παπαδόπουλος^Γεώργιος"], "ΠΑΠΑΔΌΠΟΥΛΟΣ^*"),
    "made-missing-charset-latin1": (["Müller^Jürgen"], "MÜLLER*"),
    # what is declared is believed, though a person sees that it is wrong
    "made-wrong-charset-utf8-in-latin1": (["MÃ¼ller^JÃ¼rgen"], "M*ller^*"),
}
#: These name a patient only in an item of a sequence, which may have a character set of its own.
IN_SEQUENCE = ("chrsqencoding", "chrsqencoding1")


def test_every_file_is_tested(data_folder):
    assert {path.stem for path in (data_folder / "charsets").glob("*.dcm")} == {*NAMES, *IN_SEQUENCE}


async def take_in(core, content: bytes) -> str:
    outcome = await core.archive.ingest(stream(content), Source("import"))
    assert outcome.failure is None, outcome.reason
    return f"/dicomweb/{outcome.stored.path}/metadata"


async def item_at(client, path: str) -> dict:
    """The only item of an answer, which must be UTF-8 and say so."""
    (item,) = json.loads((await (await client.get(path)).read()).decode("utf-8", errors="strict"))
    assert item.get("00080005", {"Value": ["ISO_IR 192"]})["Value"] == ["ISO_IR 192"]
    assert "\\u001b" not in json.dumps(item)
    return item


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_read_and_found_by_any_of_their_groups(client, core, data_folder, name):
    groups, part = NAMES[name]
    metadata = await take_in(core, (data_folder / "charsets" / f"{name}.dcm").read_bytes())
    await take_in(core, part10(ct()))
    expected = dict(zip(WHO, groups, strict=False))
    assert (await item_at(client, metadata))["00100010"]["Value"][0] == expected
    for wanted in [*groups, "=".join(groups), part]:
        item = await item_at(client, f"/dicomweb/studies?PatientName={quote(wanted)}")
        assert item["00100010"]["Value"][0] == expected, wanted
    word = quote(groups[-1].split("^")[0][:2])
    assert len(await bodies(client, f"/dicomweb/studies?PatientName={word}&fuzzymatching=true")) == 1


@pytest.mark.parametrize("name", IN_SEQUENCE)
async def test_items_may_have_a_character_set_of_their_own(client, core, data_folder, name):
    ds = pydicom.dcmread(data_folder / "charsets" / f"{name}.dcm")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, keyword, generate_uid(None))  # elements that are not touched are written as they were read
    out = BytesIO()
    ds.save_as(out)
    item = await item_at(client, await take_in(core, out.getvalue()))
    (code,) = item["00321064"]["Value"]
    assert code["00100010"]["Value"] == [dict(zip(WHO, NAMES["chrh32"][0], strict=True))]


async def test_other_text_is_matched_as_it_is_but_for_composition(client, core):
    await take_in(core, part10(ct(SpecificCharacterSet="ISO_IR 192", StudyDescription="Caf\u00e9")))
    for description, found in [("Café", 1), ("Cafe\u0301", 1), ("CAFÉ", 0), ("Cafe", 0)]:
        assert len(await bodies(client, f"/dicomweb/studies?StudyDescription={quote(description)}")) == found
