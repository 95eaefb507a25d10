"""Where a request ends, and which path it names, is never in doubt: what could be read in two ways is refused."""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

import orjson
import pytest

from tests.integration.service_process import COMPARISON, QUESTION, ServiceProcess, mocked, received, service

BODY = orjson.dumps(QUESTION)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
NOTHING = b"0\r\n\r\n"
HIDDEN = b"GET /api/v1/providers HTTP/1.1\r\nHost: judge\r\n\r\n"
ENCODED = "Transfer-Encoding: chunked"
USUAL = " HTTP/1.1\r\n"

IN_DOUBT: dict[str, tuple[tuple[str, ...], bytes]] = {
    "the length of the chunks, then chunks": ((f"Content-Length: {len(CHUNKED)}", ENCODED), CHUNKED),
    "chunks, then their length": ((ENCODED, f"Content-Length: {len(CHUNKED)}"), CHUNKED),
    "a request behind the last chunk": ((f"Content-Length: {len(NOTHING + HIDDEN)}", ENCODED), NOTHING + HIDDEN),
    "a request behind the length": ((ENCODED, f"Content-Length: {len(NOTHING)}"), NOTHING + HIDDEN),
    "two lengths": ((f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY) + len(HIDDEN)}"), BODY + HIDDEN),
    "no length and a length": (("Content-Length: 0", f"Content-Length: {len(HIDDEN)}"), HIDDEN),
    "two lengths in a line": ((f"Content-Length: {len(BODY)}, {len(BODY + HIDDEN)}",), BODY + HIDDEN),
    "chunks, but not at last": (("Transfer-Encoding: chunked, identity",), CHUNKED),
    "an unknown encoding beside a length": (("Transfer-Encoding: chunks", f"Content-Length: {len(BODY)}"), BODY),
    "a space before the colon": (("Transfer-Encoding : chunked", f"Content-Length: {len(HIDDEN)}"), HIDDEN),
    "a line that goes on": (("X-Long: a", f" {ENCODED}", f"Content-Length: {len(HIDDEN)}"), HIDDEN),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service for all."""
    with service(tmp_path_factory.mktemp("service"), mocked()) as started:
        yield started


def head(method: str, target: str, *fields: str) -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "Host: judge", "Content-Type: application/json", *fields)
    return "\r\n".join((*lines, "", "")).encode()


@pytest.mark.parametrize("name", IN_DOUBT)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_hides_no_other(
    running: ServiceProcess, name: str
) -> None:
    fields, body = IN_DOUBT[name]
    with running.connected() as plain:
        plain.sendall(head("POST", COMPARISON, *fields) + body + HIDDEN)
        told = b"".join(iter(lambda: plain.recv(65_536), b""))
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1 ") == 1
    assert running.compare().status == HTTPStatus.OK
    assert 'endpoint="/api/v1/providers"' not in running.ask("/metrics").text


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "another"])
def test_the_offer_of_another_protocol_changes_nothing(running: ServiceProcess, protocol: str) -> None:
    """RFC 9110, 7.8. Java's client offers HTTP/2 in each of its requests."""
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    with running.connected() as plain:
        for body, status in ((BODY, HTTPStatus.OK), (HIDDEN, HTTPStatus.BAD_REQUEST)):
            plain.sendall(head("POST", COMPARISON, *offer, f"Content-Length: {len(body)}"))
            plain.sendall(body)
            assert received(plain).status == status
        plain.sendall(head("GET", "/livez", *offer))
        assert received(plain).text == running.ask("/livez").text
    assert 'endpoint="/api/v1/providers"' not in running.ask("/metrics").text


@pytest.mark.parametrize("host", ["judge", "elsewhere.example:81"])
def test_a_whole_url_in_the_request_line_is_read_as_its_path(running: ServiceProcess, host: str) -> None:
    with running.connected() as plain:
        plain.sendall(head("GET", f"http://{host}/livez?deep=true"))
        assert received(plain).text == running.ask("/livez").text
        plain.sendall(head("POST", f"http://{host}{COMPARISON}", f"Content-Length: {len(BODY)}") + BODY)
        assert received(plain).json()["winner"] in {"Essay A", "Essay B"}
        plain.sendall(head("GET", f"http://{host}/nowhere"))
        assert received(plain).status == HTTPStatus.NOT_FOUND
        plain.sendall(head("GET", "/readyz"))
        assert received(plain).text == running.ask("/readyz").text


@pytest.mark.parametrize(
    "target",
    ["/%6detrics", "/api%2Fv1%2Fproviders", "//metrics", "http://judge///metrics"],
)
def test_a_path_in_another_spelling_than_a_proxy_s_rules_is_unknown(running: ServiceProcess, target: str) -> None:
    with running.connected() as plain:
        plain.sendall(head("GET", target, "Connection: close"))
        told = b"".join(iter(lambda: plain.recv(65_536), b""))
    assert told.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("target", "version"),
    [
        *(("/livez", version) for version in ("\n", "\r\n", " HTTP/0.9\r\n", " HTTP/2.0\r\n")),
        *(("/livez" + fragment, USUAL) for fragment in ("#", "#.png", "?a#b")),
        ("http://judge/livez#/metrics", USUAL),
        ("http://judge", USUAL),  # a URL without a path
    ],
    ids=repr,
)
def test_another_version_a_fragment_and_no_path_are_refused_and_hide_no_request(
    running: ServiceProcess, target: str, version: str
) -> None:
    with running.connected() as plain:
        plain.sendall(head("GET", target).replace(USUAL.encode(), version.encode(), 1) + HIDDEN)
        told = b"".join(iter(lambda: plain.recv(65_536), b""))
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1 ") == 1


def test_a_request_of_version_1_0_is_answered_and_ends_its_connection(running: ServiceProcess) -> None:
    """As older proxies send them."""
    with running.connected() as plain:
        plain.sendall(head("GET", "/livez").replace(b" HTTP/1.1\r\nHost: judge\r\n", b" HTTP/1.0\r\n") + HIDDEN)
        told = b"".join(iter(lambda: plain.recv(65_536), b""))
    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("target", ["/livez", "http://judge/livez"])
def test_who_wants_a_tunnel_is_refused_and_must_connect_again(running: ServiceProcess, target: str) -> None:
    with running.connected() as plain:
        plain.sendall(head("CONNECT", target))
        told = received(plain)
        with contextlib.suppress(ConnectionError):
            assert plain.recv(65_536) == b""
    assert (told.status, told.headers["connection"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "close")
