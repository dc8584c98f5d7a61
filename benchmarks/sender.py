"""Sends requests that were encoded before, and waits for the answer to each: the process of which nothing is measured.

It imports nothing but what sending needs. Standard input holds one line of JSON that says over which connections
what is sent (`senders.py` writes it), then a line for each run: `seconds` after which no further request is sent, and
whether each is sent `once`. A message that is sent again becomes another instance first: eight digits of its UIDs, at
`places` that are known, are written over in memory.
"""

from __future__ import annotations

import json
import mmap
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

#: Messages of which each is a study of its own.
STUDY = 100
_TIMEOUT_S = 120.0
_RELEASE = bytes.fromhex("05000000000400000000")  # A-RELEASE-RQ, PS3.8 section 9.3.6
_DATA = 4
_STATUS = bytes.fromhex("0000000902000000")  # (0000,0900), 2 bytes long, in Implicit VR Little Endian


class Task:
    """One connection with its messages, and what became of them."""

    def __init__(self, number: int, given: dict) -> None:
        self.number = number
        self.sent = 0
        self.answers: list[str] = []
        self.latencies_ms: list[float] = []
        self._memory = mmap.mmap(given["memory"], 0)
        self._messages = [(memoryview(self._memory)[begin:end], places) for begin, end, places in given["messages"]]
        self._exchange = _Http(given["address"]) if given["protocol"] == "http" else _Dimse(given["socket"])

    def run(self, until: float, *, once: bool) -> None:
        """Send until it is time, or each message once; note what each was answered with."""
        last = self.sent + len(self._messages) if once else None
        while self.sent != last and time.perf_counter() < until:
            message = self._next()
            begin = time.perf_counter()
            try:
                answer = self._exchange.answer(message)
            except (OSError, EOFError):
                answer = "closed"
            self.latencies_ms.append(1000 * (time.perf_counter() - begin))
            self.answers.append(answer)
            if answer == "closed" and not self._exchange.open_again():
                return

    def close(self) -> None:
        """Close the connection as its protocol wants it."""
        with suppress(OSError, EOFError):
            self._exchange.close()

    def _next(self) -> memoryview:
        message, places = self._messages[self.sent % len(self._messages)]
        digits = {"instance": self.sent, "study": self.sent // STUDY}
        for level, offsets in places.items():
            text = b"%03d%05d" % (self.number, digits[level])
            for offset in offsets:
                message[offset : offset + 8] = text
        self.sent += 1
        return message


class _Http:
    """One connection that is kept alive; opened again where the server closed it."""

    def __init__(self, address: Sequence) -> None:
        self._address = tuple(address)
        self._buffer = memoryview(bytearray(1 << 20))
        self._socket = self._connected()

    def answer(self, request: memoryview) -> str:
        """Send a request, read the whole answer, return its status."""
        self._socket.sendall(request)
        got = bytearray()
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._received()
        status, _, fields = bytes(got[:end]).partition(b"\r\n")
        headers = dict(line.lower().split(b":", 1) for line in fields.split(b"\r\n"))
        if b"content-length" in headers:
            missing = int(headers[b"content-length"]) - (len(got) - end - 4)
            while missing > 0:
                missing -= len(self._received())
        elif b"transfer-encoding" in headers:
            tail = bytes(got[end + 4 :])
            while not tail.endswith(b"0\r\n\r\n"):
                tail = (tail + self._received())[-8:]
        if headers.get(b"connection", b"").strip() == b"close":
            self.open_again()
        return status.split(b" ")[1].decode()

    def open_again(self) -> bool:
        """Connect anew; whether that worked."""
        self._socket.close()
        with suppress(OSError):
            self._socket = self._connected()
            return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _received(self) -> memoryview:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise EOFError
        return self._buffer[:count]

    def _connected(self) -> socket.socket:
        opened = socket.create_connection(self._address, _TIMEOUT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


class _Dimse:
    """One association, which was opened by who started this process."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(_TIMEOUT_S)

    def answer(self, message: memoryview) -> str:
        """Send a C-STORE request, return the status of its response as four hexadecimal digits."""
        self._socket.sendall(message)
        kind, pdu = self._read()
        at = pdu.find(_STATUS)
        if kind != _DATA or at < 0:
            raise EOFError
        return pdu[at + 9 : at + 7 : -1].hex().upper()

    def open_again(self) -> bool:
        """An association that was ended stays ended."""
        return False

    def close(self) -> None:
        self._socket.sendall(_RELEASE)
        self._read()
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        head = self._exactly(6)
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self._socket.recv(count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got


def main() -> None:
    """Do the runs that standard input asks for, each answered with a line of JSON."""
    tasks = [Task(number, given) for number, given in enumerate(json.loads(sys.stdin.readline()))]
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(_run(tasks, wanted["seconds"], once=wanted["once"])), flush=True)
    for task in tasks:
        task.close()


def _run(tasks: Sequence[Task], seconds: float, *, once: bool) -> dict:
    for task in tasks:
        task.answers, task.latencies_ms = [], []
    begin, cpu = time.perf_counter(), time.process_time()
    _all([lambda task=task: task.run(begin + seconds, once=once) for task in tasks])
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_s": time.process_time() - cpu,
        "answers": [task.answers for task in tasks],
        "latencies_ms": [one for task in tasks for one in task.latencies_ms],
    }


def _all(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
