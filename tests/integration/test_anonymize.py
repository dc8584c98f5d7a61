"""`anonymize=yes` of WADO-URI: what an archive with the profile `none` holds of a person is not in the answer."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, generate_uid

from dicomweb.pixels.compress import encode
from gateway.deid import ocr
from gateway.deid.uids import UidMap
from tests.burned_in import burn
from tests.conftest import KEY
from tests.dicomweb_support import store
from tests.integration.test_wado_uri import dicom, picture, put, report, wado
from tests.samples import ct, part10

IDENTITY = [b"Quixote", b"QUIXOTE", b"Alonso", b"MRN-4711", b"4711", b"ACC77", b"Cervantes", b"20210304", b"19500102"]
DCIODVFY = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}") or "dciodvfy"
LINES = ["QUIXOTE^ALONSO", "MRN-4711 1950-01-02"]


async def anonymous(client, ds: Dataset, **parameters: str) -> tuple[Dataset, bytes]:
    """The de-identified file, and its bytes."""
    response = await wado(client, ds, contentType="application/dicom", anonymize="yes", **parameters)
    found = await dicom(response)
    return found, await response.read()


def codes(ds: Dataset) -> set[str]:
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


def ultrasound(frames: int = 1, **attributes: object) -> tuple[Dataset, np.ndarray]:
    """A picture of noise with a name in a corner of each frame; and where its strokes are."""
    noise = np.random.default_rng(1).integers(20, 90, (frames, 240, 320), np.uint8)
    noise[:, :60] = noise[:, 200:] = 0
    marks = np.zeros((240, 320), bool)
    for frame in noise:
        for top, line in zip((12, 210), LINES, strict=True):
            marks |= burn(frame, line, (10, top), 18, 255).mask
    ds = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1", Modality="US", ImageType=["ORIGINAL", "PRIMARY"])
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 240, 320, 8, 8, 7, 0
    if frames > 1:
        ds.SOPClassUID, ds.NumberOfFrames, ds.FrameTime = "1.2.840.10008.5.1.4.1.1.3.1", frames, 33
    del ds.RescaleIntercept, ds.RescaleSlope
    ds.PixelData = noise.tobytes()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds, marks


def assert_unreadable(pixels: np.ndarray, marks: np.ndarray) -> None:
    """Where the strokes were all is one value, and Tesseract, where there is one, reads nothing of them."""
    assert len(np.unique(pixels[marks])) == 1
    if shutil.which("tesseract") is None:
        assert not os.environ.get("CI")
        return
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((1280, 960)).save(buffer, "PNG")
    command = ["tesseract", "stdin", "stdout", "--psm", "11"]
    text = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True).stdout.decode()
    assert not any(part in "".join(text.split()) for part in ("QUIX", "UIXO", "ALON", "ONSO", "4711", "1950"))


class TestHeader:
    async def test_nothing_of_the_person_is_left(self, client) -> None:
        image = ct(PatientComments="Alonso Quixote of La Mancha")
        block = image.private_block(0x0019, "QUIXOTE 1.0", create=True)
        block.add_new(0x01, "LO", "Quixote MRN-4711")
        await store(client, image)
        found, raw = await anonymous(client, image)
        assert not [token for token in IDENTITY if token in re.sub(rb"2\.25\.\d+", b"", raw)]  # a UID has any digits
        assert found.PatientIdentityRemoved == "YES"
        assert codes(found) == {"113100", "113101"}
        assert found.DeidentificationMethod
        assert found.BurnedInAnnotation == "NO"
        assert found.PixelData == image.PixelData
        assert raw[:128] == b"\0" * 128
        uids = [image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID]
        assert not [uid for uid in uids if uid.encode() in raw]
        assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID

    async def test_uids_are_the_same_every_time_and_join_what_belongs_together(self, client) -> None:
        first = ct()
        other = ct(StudyInstanceUID=first.StudyInstanceUID, FrameOfReferenceUID=first.FrameOfReferenceUID)
        await store(client, first, other)
        (one, _), (again, _), (two, _) = [await anonymous(client, ds) for ds in (first, first, other)]
        assert one == again
        assert one.StudyInstanceUID == two.StudyInstanceUID == UidMap(KEY)(first.StudyInstanceUID)
        assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
        assert one.PatientID == two.PatientID
        assert one.SOPInstanceUID != two.SOPInstanceUID

    async def test_what_was_issued_before_is_kept(self, open_archive, serve) -> None:
        core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
        client, image = await serve(core), ct()
        await store(client, image)
        issued = UidMap(KEY)
        held = ct()
        held.StudyInstanceUID, held.SeriesInstanceUID, held.SOPInstanceUID = (
            issued(uid) for uid in (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
        )
        found, _ = await anonymous(client, held)
        assert found.SOPInstanceUID == held.SOPInstanceUID
        assert found.StudyInstanceUID == held.StudyInstanceUID

    async def test_reports_lose_their_text_in_every_form(self, client) -> None:
        ds = report()
        ds.ContentSequence[0].TextValue = "Alonso Quixote was well."
        await store(client, ds)
        found, raw = await anonymous(client, ds)
        assert not [token for token in IDENTITY if token in raw]
        assert "113101" not in codes(found)
        for content_type in ("text/plain", "text/html", "text/xml"):
            response = await wado(client, ds, contentType=content_type, anonymize="yes")
            assert response.status == 200
            text = await response.text()
            assert "Quixote" not in text
            assert "Alonso" not in text
            assert str(ds.SOPInstanceUID) not in text

    async def test_what_cannot_be_done_safely_is_refused_with_a_sentence(self, client) -> None:
        ds = report()
        ds.SOPClassUID, ds.EncapsulatedDocument = "1.2.840.10008.5.1.4.1.1.104.1", b"%PDF-1.4 %%EOF"
        ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
        await store(client, ds)
        for content_type in ("application/dicom", "application/pdf"):
            response = await wado(client, ds, contentType=content_type, anonymize="yes")
            assert response.status == 422
            assert (await response.json())["error"].endswith(".")


class TestPixels:
    async def test_names_are_blanked_and_the_rest_stays(self, client) -> None:
        ds, marks = ultrasound()
        await store(client, ds)
        found, raw = await anonymous(client, ds)
        assert_unreadable(found.pixel_array, marks)
        before = np.frombuffer(ds.PixelData, np.uint8).reshape(240, 320)
        assert np.array_equal(found.pixel_array[70:190], before[70:190])
        assert not [token for token in IDENTITY if token in raw]
        assert "113101" in codes(found)

    async def test_rendered_answers_are_cleaned_too(self, client) -> None:
        ds, marks = ultrasound()
        await store(client, ds)
        shown = await picture(
            await wado(client, ds, contentType="image/png", anonymize="yes", annotation="patient,technique", rows="480")
        )
        assert shown.size == (640, 480)
        plain = await picture(await wado(client, ds, contentType="image/png", anonymize="yes"))
        assert_unreadable(np.asarray(plain), marks)

    async def test_every_frame_of_compressed_data_is_cleaned_without_loss(self, client) -> None:
        ds, marks = ultrasound(frames=12)
        frames = np.frombuffer(ds.PixelData, np.uint8).reshape(12, 240, 320)
        ds.PixelData = encapsulate([encode(ds, frame, "MONOCHROME2", JPEGLSLossless).data for frame in frames])
        ds["PixelData"].is_undefined_length = True
        await store(client, part10(ds, JPEGLSLossless))
        found, _ = await anonymous(client, ds, transferSyntax=JPEGLSLossless)
        assert found.file_meta.TransferSyntaxUID == JPEGLSLossless
        cleaned = found.pixel_array
        assert all(len(np.unique(frame[marks])) == 1 for frame in cleaned)
        assert np.array_equal(cleaned[:, 70:190], frames[:, 70:190])
        native, _ = await anonymous(client, ds)
        assert native.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert np.array_equal(native.pixel_array, cleaned)

    async def test_canaries(self, client, data_folder: Path) -> None:
        """Objects with invented identity in every place that tools forget (header, private, pixels)."""
        for name in ("us-burnedin", "us-clean-pixels"):
            file = data_folder / "phi-canaries" / f"{name}.dcm"
            ds = await put(client, file)
            response = await wado(client, ds, contentType="application/dicom", anonymize="yes")
            found, raw = await dicom(response), await response.read()
            tokens = _tokens(file.with_suffix(".json"))
            assert not [token for token in tokens if token.encode() in raw]
            assert found.pixel_array.max() > 0
            assert name == "us-clean-pixels" or not np.array_equal(found.pixel_array, ds.pixel_array)

    async def test_without_ocr_what_is_suspect_is_refused(self, open_archive, serve, monkeypatch) -> None:
        monkeypatch.setattr(ocr, "is_installed", lambda: False)
        core = await open_archive(ISTHMUS_INGEST__PROFILE="none")
        client, image = await serve(core), ct()
        ds, _ = ultrasound()
        await store(client, image, ds)
        for content_type in ("application/dicom", "image/png"):
            response = await wado(client, ds, contentType=content_type, anonymize="yes")
            assert response.status == 422
            assert "isthmus[ocr]" in (await response.json())["error"]
        found, _ = await anonymous(client, image)
        assert codes(found) == {"113100"}


@pytest.mark.parametrize(
    "name",
    [
        "us/us-ybr422-native.dcm",
        "us/us-rgb-palette-expb.dcm",
        "us/still-grey-burnedin.dcm",
        "transfer-syntaxes/ct-jpeg2000losslessonly.dcm",
        "transfer-syntaxes/ct-rlelossless.dcm",
    ],
)
async def test_real_objects_stay_valid(client, data_folder: Path, tmp_path: Path, name: str) -> None:
    """dciodvfy finds no error that the original had not, and DCMTK reads the copy."""
    ds = await put(client, data_folder / name)
    found, raw = await anonymous(client, ds)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(raw)
    assert set(_errors(copy)) <= set(_errors(data_folder / name))
    assert _is_read_by_dcmtk(copy)
    assert found.pixel_array.shape == ds.pixel_array.shape
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "StudyID"):
        value = str(ds.get(keyword) or "").encode()
        assert len(value) < 4 or value not in raw


async def test_nothing_of_it_is_logged(client, caplog: pytest.LogCaptureFixture) -> None:
    ds, _ = ultrasound(SOPInstanceUID=generate_uid(None))
    await store(client, ds)
    with caplog.at_level("DEBUG"):
        await anonymous(client, ds)
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("gateway", "dicomweb"))
    )
    assert not [part for part in ("Quixote", "QUIXOTE", "4711", ds.SOPInstanceUID) if part in text]


def _is_read_by_dcmtk(file: Path) -> bool:
    if shutil.which("dcmdump") is None:
        return not os.environ.get("CI")
    return subprocess.run(["dcmdump", "-q", str(file)], capture_output=True, check=False).returncode == 0


def _tokens(file: Path) -> list[str]:
    tokens: list[str] = json.loads(file.read_text())["must_not_survive"]
    return tokens


def _errors(file: Path) -> Iterator[str]:
    """What dciodvfy says is wrong, without the values."""
    result = subprocess.run([DCIODVFY, str(file)], capture_output=True, text=True, check=False)
    for line in result.stderr.splitlines():
        if line.startswith("Error"):
            yield line.split(" = ")[0].split("<")[-1] if "<" in line else line
