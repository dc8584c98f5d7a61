"""The route table of the worklist service (PS3.18 Table 11.1.1-1)."""

from __future__ import annotations

from dicomweb.capabilities import Route, Transaction
from dicomweb.negotiate import DICOM_JSON, DICOM_XML, JSON
from dicomweb.ports import Services
from dicomweb.ups import Ups
from dicomweb.ups_channel import Channel
from dicomweb.worklist.search import KEYS

_WORKITEMS = "/workitems"
_WORKITEM = "/workitems/{workitem}"
_SUBSCRIBER = _WORKITEM + "/subscribers/{aetitle}"

_ONE = (DICOM_JSON, JSON, DICOM_XML, f'multipart/related; type="{DICOM_XML}"')
_MANY = (DICOM_JSON, JSON, f'multipart/related; type="{DICOM_XML}"')
_PAGING = "accept limit offset includefield fuzzymatching emptyvaluematching multiplevaluematching".split()

_CREATE = Transaction("Create Workitem", consumes=_ONE, query=["workitem"], statuses=[201])
_RETRIEVE = Transaction("Retrieve Workitem", _ONE, query=["accept"])
_UPDATE = Transaction("Update Workitem", consumes=_ONE, query=["transaction-uid"])
_STATE = Transaction("Change Workitem State", consumes=_ONE)
_CANCEL = Transaction("Request Workitem Cancellation", consumes=_ONE, statuses=[202], needs_body=False)
_SEARCH = Transaction(
    "Search for Workitems", _MANY, query=[*_PAGING, *sorted(map(".".join, KEYS))], statuses=[200, 204]
)
_SUBSCRIBE = Transaction("Subscribe", query=["deletionlock", "filter"], statuses=[201])
_UNSUBSCRIBE = Transaction("Unsubscribe")
_SUSPEND = Transaction("Suspend Global Subscription")
_OPEN = Transaction("Open Notification Connection", statuses=[101])


def routes(services: Services) -> list[Route]:
    """The table; empty where the server has no worklist."""
    if services.worklist is None:
        return []
    ups, channel = Ups(services, services.worklist), Channel(services, services.worklist)
    reads = [(_WORKITEMS, ups.search, _SEARCH), (_WORKITEM, ups.retrieve, _RETRIEVE)]
    return [
        Route("POST", _WORKITEMS, ups.create, _CREATE),
        *(Route(method, *read) for read in reads for method in ("GET", "HEAD")),
        Route("POST", _WORKITEM, ups.telling(ups.update), _UPDATE),
        *(
            Route("PUT", _WORKITEM + end, ups.telling(ups.change_state), _STATE)
            for end in ("/state", "/state/{requester}")
        ),
        *(
            Route("POST", _WORKITEM + end, ups.telling(ups.request_cancel), _CANCEL)
            for end in ("/cancelrequest", "/cancelrequest/{requester}")
        ),
        Route("POST", _SUBSCRIBER, channel.subscribe, _SUBSCRIBE),
        Route("DELETE", _SUBSCRIBER, channel.unsubscribe, _UNSUBSCRIBE),
        Route("POST", _SUBSCRIBER + "/suspend", channel.suspend, _SUSPEND),
        *(Route("GET", path, channel.open, _OPEN) for path in ("/subscribers/{aetitle}", "/")),
    ]
