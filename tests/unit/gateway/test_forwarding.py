"""The origin that callers see: public URL, trusted proxies, the request itself."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.config import load
from gateway.errors import ConfigurationError
from gateway.forwarding import Forwarding

LOOPBACK = ("127.0.0.1", "::1")


class _Transport:
    """A connection from a peer, which is all that `request.remote` asks of it."""

    def __init__(self, peer):
        self._peer = peer

    def get_extra_info(self, name, default=None):
        return (self._peer, 40000) if name == "peername" else default

    def is_closing(self):
        return False


def origin(headers, *, peer="127.0.0.1", public_url="", trusted=LOOPBACK):
    request = make_mocked_request("GET", "/", headers={"Host": "inner:8042"} | headers, transport=_Transport(peer))
    return str(Forwarding(public_url, trusted).origin(request))


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.9, 192.0.2.1"], "192.0.2.1"),  # what the caller says of itself is not believed
        ("127.0.0.1", ["198.51.100.9", "192.0.2.1, ::1"], "192.0.2.1"),
        ("192.0.2.7", ["192.0.2.1"], "192.0.2.7"),
        ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["192.0.2.1, DOE^JANE"], "127.0.0.1"),
    ],
)
def test_who_sent_it_is_the_nearest_that_is_no_proxy(peer, said, expected):
    headers = CIMultiDict([("Host", "inner:8042"), *(("X-Forwarded-For", one) for one in said)])
    request = make_mocked_request("GET", "/", headers=headers, transport=_Transport(peer))
    assert Forwarding("", LOOPBACK).client(request) == expected


def test_the_request_speaks_for_itself():
    assert origin({}) == "http://inner:8042"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example.org"},
        {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "pacs.example.org, inner"},
        {"Forwarded": "for=192.0.2.1;proto=https;host=pacs.example.org"},
        {"Forwarded": 'proto=https;host="pacs.example.org"', "X-Forwarded-Host": "other"},
    ],
)
def test_a_trusted_proxy_is_believed_and_nobody_else(headers):
    assert origin(headers) == "https://pacs.example.org"
    assert origin(headers, peer="10.0.0.7", trusted=("10.0.0.0/8",)) == "https://pacs.example.org"
    assert origin(headers, peer="192.0.2.9") == "http://inner:8042"
    assert origin(headers, public_url="https://public.example.org/pacs") == "https://public.example.org"


@pytest.mark.parametrize("host", ["a b", "evil.org/path", 'x"y', "[zz]", "a:123456"])
def test_a_malformed_host_is_not_repeated(host):
    assert origin({"X-Forwarded-Host": host}) == "http://inner:8042"
    assert origin({"Host": host}) == "http://localhost"


def test_a_scheme_that_is_none_is_ignored():
    assert origin({"X-Forwarded-Proto": "javascript"}) == "http://inner:8042"


def test_a_trusted_proxy_is_an_address_or_a_network():
    assert load(None, {"ISTHMUS_HTTP__TRUSTED_PROXIES": "10.0.0.1,fd00::/8"}).http.trusted_proxies
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        load(None, {"ISTHMUS_HTTP__TRUSTED_PROXIES": "proxy.example.org"})
