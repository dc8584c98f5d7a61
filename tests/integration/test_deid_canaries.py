"""The canaries of `make bench-deid` through an archive, as an import stores them."""

from pathlib import Path

from benchmarks.deid import canaries, isthmus
from gateway.wiring import Core
from tests.conftest import CoreFactory


async def test_no_canary_leaks_and_nearly_all_objects_are_released(open_archive: CoreFactory, tmp_path: Path) -> None:
    core: Core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    made = canaries.make()
    source, target = tmp_path / "in", tmp_path / "out"
    made.write(source)
    target.mkdir()
    reasons = await isthmus.take(core, source, target)
    written = {file.stem: file.read_bytes() for file in target.glob("*.dcm")}
    assert set(written) >= set(made.objects) - {"PDF", "DICOMDIR"}, reasons
    assert not sum((made.leaked(name, raw) for name, raw in written.items()), start=type(made.groups())())
    assert not made.burned(written["US"])
    tokens = [token for planted in made.planted.values() for token in planted]
    assert not [token for token in tokens for reason in reasons.values() if token in reason]
