"""How much memory a running gateway holds: all of its processes under one limit, which ends them when it is passed."""

from pathlib import Path

from benchmarks import memory

_MB = 1_000_000


def test_one_huge_instance_and_many_clients(tmp_path: Path) -> None:
    """1 GB in one instance costs a worker next to nothing; 100 retrievals at once cost some."""
    rest, file, bulk, clients = memory.measure(1.0, tmp_path / "data")
    for stored in (file, bulk):
        assert stored.megabytes > 999
        assert stored.largest_bytes < rest.largest_bytes + 60 * _MB
        assert stored.proportional_bytes < rest.proportional_bytes + 100 * _MB
    assert clients.megabytes > 2000
    assert clients.proportional_bytes < memory.LIMIT_BYTES
