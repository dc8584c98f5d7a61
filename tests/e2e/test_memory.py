"""How much memory a running gateway holds: all of its processes under one limit, which ends them when it is passed."""

from dataclasses import replace
from pathlib import Path

from benchmarks import memory
from benchmarks.plan import QUICK
from benchmarks.servers import Isthmus


def test_one_huge_instance_and_many_clients(tmp_path: Path) -> None:
    """1 GB in one instance costs a worker next to nothing; 100 retrievals at once cost some."""
    with Isthmus().start(tmp_path / "rest") as server:
        rest = server.tree.memory()
    (sheet,) = memory.measure(replace(QUICK, gigabytes=1.0), tmp_path / "data").sheets
    moved, together, largest = (sheet.heads.index(head) for head in (sheet.heads[1], sheet.heads[2], sheet.heads[-1]))
    file, bulk, clients = sheet.rows.values()
    for stored in (file, bulk):
        assert stored[moved] > 999
        assert stored[largest] < max(one.resident for one in rest if "mongod" not in one.name) / 1e6 + 60
        assert stored[together] < sum(one.proportional for one in rest) / 1e6 + 100
    assert clients[moved] > 2000
    assert clients[together] < memory.LIMIT_BYTES / 1e6
