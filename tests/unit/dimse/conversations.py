"""Bytes that a peer may send, made by hand so that nothing of ours vouches for itself."""

import struct
from itertools import pairwise

CT = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"


def pdu(kind, body):
    return struct.pack(">BBL", kind, 0, len(body)) + body


def fragment(data, *, context=1, command=False, last=False):
    return struct.pack(">LBB", len(data) + 2, context, command | last << 1) + data


def element(number, value):
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_rq(instance_uid=b"1.2.3\0", *, data_set_type=1, message_id=7):
    """The command set of a C-STORE-RQ."""
    elements = element(0x0002, CT + b"\0")
    elements += element(0x0100, b"\1\0") + element(0x0110, struct.pack("<H", message_id)) + element(0x0700, b"\0\0")
    elements += element(0x0800, struct.pack("<H", data_set_type)) + element(0x1000, instance_uid)
    return element(0, struct.pack("<L", len(elements))) + elements


def split(data, cuts):
    """The data in pieces, cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [memoryview(data)[start:end] for start, end in pairwise(places)]
