"""Workitems for tests, and the answers of the worklist service as they are checked."""

import secrets
from typing import Any

from aiohttp.test_utils import TestClient

PERFORMER = "1.2.840.99.7"


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def coded(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    return {
        "00080100": element("SH", value),
        "00080102": element("SH", scheme),
        "00080104": element("LO", meaning),
    }


def new_uid() -> str:
    return f"1.2.826.0.1.{secrets.randbits(60)}"


#: Type 2 attributes of N-CREATE (PS3.4 Table CC.2.5-3), empty.
EMPTY = {
    "00081080": "LO", "00081084": "SQ", "00081195": "UI", "00100010": "PN", "00100020": "LO", "00100021": "LO",
    "00100024": "SQ", "00100030": "DA", "00100040": "CS", "00101002": "SQ", "00380010": "LO", "00380014": "SQ",
    "00400400": "LT", "00404018": "SQ", "00404021": "SQ", "00404025": "SQ", "00404026": "SQ", "00404027": "SQ",
    "0040A370": "SQ", "00741002": "SQ", "00741202": "LO", "00741210": "SQ", "00741216": "SQ",
}  # fmt: skip


def workitem(**attributes: Any) -> dict[str, Any]:
    """A workitem that may be created; `t00741204=element(…)` sets an attribute, None leaves it out."""
    item = {tag: element(vr) for tag, vr in EMPTY.items()} | {
        "00404005": element("DT", "20240102030405"),
        "00404041": element("CS", "READY"),
        "00741000": element("CS", "SCHEDULED"),
        "00741200": element("CS", "MEDIUM"),
        "00741202": element("LO", "AI"),
        "00741204": element("LO", "Bone segmentation"),
    }
    item |= {tag.removeprefix("t"): value for tag, value in attributes.items()}
    return {tag: value for tag, value in sorted(item.items()) if value is not None}


def ordered(study_uid: str, series_uid: str, plugin: str = "act", **parameters: Any) -> dict[str, Any]:
    """A workitem that asks for a run of a plugin."""
    item = {
        "t00404018": element("SQ", coded(plugin, "99ISTHMUS", "A plugin")),
        "t00404021": element(
            "SQ",
            {
                "0020000D": element("UI", study_uid),
                "0020000E": element("UI", series_uid),
                "0040E020": element("CS", "DICOM"),
            },
        ),
        "t00741210": element("SQ", *(parameter(name, value) for name, value in parameters.items())),
    }
    return workitem(**item)


def parameter(name: str, value: Any) -> dict[str, Any]:
    concept = {"0040A043": element("SQ", coded(name, "99ISTHMUS", name))}
    if isinstance(value, str):
        return {"0040A040": element("CS", "TEXT"), "0040A160": element("UT", value)} | concept
    return {"0040A040": element("CS", "NUMERIC"), "0040A30A": element("DS", value)} | concept


def state(name: str, transaction_uid: str | None = PERFORMER) -> dict[str, Any]:
    said = {"00741000": element("CS", name)}
    return said if transaction_uid is None else said | {"00081195": element("UI", transaction_uid)}


def performed() -> dict[str, Any]:
    """What COMPLETED needs of the performer."""
    return {
        "00404019": element("SQ", coded("110001", "DCM", "Image Processing")),
        "00404028": element("SQ", coded("WS1", "99LOCAL", "Workstation")),
        "00404033": element("SQ"),
        "00404050": element("DT", "20240102030406"),
        "00404051": element("DT", "20240102030407"),
    }


class Worklist:
    """A client of the worklist service."""

    def __init__(self, client: TestClient, root: str = "/dicomweb") -> None:
        self.client = client
        self.root = root

    async def create(self, item: dict[str, Any], uid: str | None = None) -> str:
        """Create a workitem; return the UID under which it is kept."""
        answer = await self.client.post(f"{self.root}/workitems?workitem={uid or new_uid()}", json=item)
        assert answer.status == 201, await answer.text()
        return answer.headers["Location"].rpartition("/")[2]

    async def get(self, uid: str) -> dict[str, Any]:
        answer = await self.client.get(f"{self.root}/workitems/{uid}")
        assert answer.status == 200, await answer.text()
        (item,) = await answer.json(content_type=None)
        return item

    async def search(self, query: str) -> list[str]:
        """The UIDs that a search finds."""
        answer = await self.client.get(f"{self.root}/workitems?{query}")
        assert answer.status in (200, 204), await answer.text()
        return [one["00080018"]["Value"][0] for one in await answer.json(content_type=None) or []]

    async def put(self, uid: str, name: str, transaction_uid: str | None = PERFORMER):
        return await self.client.put(f"{self.root}/workitems/{uid}/state", json=state(name, transaction_uid))

    async def update(self, uid: str, changes: dict[str, Any], transaction_uid: str | None = None):
        query = f"?{transaction_uid}" if transaction_uid else ""
        return await self.client.post(f"{self.root}/workitems/{uid}{query}", json=changes)

    async def subscribe(self, uid: str, title: str, query: str = ""):
        return await self.client.post(f"{self.root}/workitems/{uid}/subscribers/{title}{query}")

    def channel(self, title: str):
        return self.client.ws_connect(f"{self.root}/subscribers/{title}")


def state_of(item: dict[str, Any]) -> str:
    return item["00741000"]["Value"][0]


async def event(socket: Any) -> tuple[int, str, dict[str, Any]]:
    """The next event of a connection: type, workitem and the whole report."""
    report = await socket.receive_json(timeout=20)
    return report["00001002"]["Value"][0], report["00001000"]["Value"][0], report
