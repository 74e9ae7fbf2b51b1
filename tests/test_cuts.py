"""Bodies that are cut, too long or slow, sent over sockets to a server: nothing half-sent is done.

In-process there is no connection to cut; tests/test_bodies.py covers the reading there.
"""

import json
import os
import re
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import URL

pytestmark = pytest.mark.external

PLACE = urlsplit(URL)
PROXY = os.environ.get("PROXY")  # the kind of proxy in front, if one is: it may refuse by itself
TLS = ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE"))
FORM, JSON, PARTS = "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="stuff"\r\n\r\ncut %d'
# the media type, the body as far as it comes, and whether its length is told
CUT = [
    (FORM, b"stuff=cut %d", True),
    (JSON, b'{"stuff": "cut %d"}', True),
    (JSON, b'{"stuff": "cut %d', True),
    (PARTS, PART, True),
    (PARTS, PART + b"\r\n--x--\r\n", True),
    (JSON, b'{"stuff": "cut %d"}' + b" " * 20_000, True),  # more than HAProxy holds back
    (FORM, b"stuff=cut %d", False),
    (JSON, b'{"stuff": "cut %d', False),
    (PARTS, PART, False),
]


def connect(source: str = "127.0.0.1") -> socket.socket:
    """A connection to the server, from an address of this machine."""
    link = socket.create_connection((PLACE.hostname or "", PLACE.port or 80), timeout=30, source_address=(source, 0))
    return TLS.wrap_socket(link, server_hostname=PLACE.hostname) if PLACE.scheme == "https" else link


def request(path: str, kind: str, body: bytes, length: int | None, **headers: str) -> bytes:
    """The bytes of a POST; without a length the body is a first chunk, and no last one follows."""
    lines = [f"POST {PLACE.path}{path} HTTP/1.1", f"Host: {PLACE.netloc}", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length is None:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n" % (len(body), body)
    else:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def answer(link: socket.socket) -> tuple[int, bytes]:
    """The status and the body of the answer, 0 if the connection ends without one."""
    got = b""
    with suppress(ConnectionError):
        while part := link.recv(65536):
            got += part
            head, end, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
            if end and length and len(body) >= int(length[1]):
                break
    return int(got[9:12]) if got.startswith(b"HTTP/") else 0, got.partition(b"\r\n\r\n")[2]


def close(link: socket.socket) -> None:
    link.close()


def half_close(link: socket.socket) -> None:
    link.shutdown(socket.SHUT_WR)
    status, _ = answer(link)
    link.close()
    assert status in (0, 400, 411), "an answer, if one comes, is a refusal"


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


CLOSINGS = pytest.mark.parametrize("cut", [close, half_close, reset])


@CLOSINGS
def test_nothing_of_a_cut_body_is_done(client: Any, cut: Callable[[socket.socket], None]) -> None:
    before = client.get("/stuff", 200).json
    for number, (kind, form, told) in enumerate(CUT):
        body = form % number if b"%d" in form else form
        for headers in ({}, {"Idempotency_Key": f"cut-{number}"}):
            link = connect()
            link.sendall(request("/stuff", kind, body, 5 * len(body) if told else None, **headers))
            time.sleep(0.02)  # a reset would overtake what is on its way
            cut(link)
    time.sleep(0.5)
    assert client.get("/stuff", 200).json == before
    client.post("/stuff", 201, data={"stuff": "cut 0"}, headers={"Idempotency-Key": "cut-0"})  # its key is not used up


@CLOSINGS
def test_a_cut_password_is_not_set(client: Any, hobbes: dict[str, str], cut: Callable[[socket.socket], None]) -> None:
    for body in (b"old=susie&new=half of it", b'{"old": "susie", "new": "half of it"}'):
        link = connect()
        kind = JSON if body[:1] == b"{" else FORM
        link.sendall(request("/password", kind, body, len(body) + 10, Authorization=hobbes["Authorization"]))
        time.sleep(0.02)
        cut(link)
    time.sleep(1)
    client.get("/whoami", 200, headers=hobbes)


@pytest.mark.parametrize(("kind", "body"), [(FORM, b"stuff=whole"), (PARTS, PART % 0 + b"\r\n--x--\r\n")])
def test_the_end_of_a_chunked_form_cannot_be_told(kind: str, body: bytes) -> None:
    with connect() as link:
        link.sendall(request("/stuff", kind, body, None) + b"0\r\n\r\n")
        got, said = answer(link)
    if PROXY == "nginx":  # knows the end, and tells the length
        assert got == 201
    else:
        assert (got, json.loads(said)["code"]) == (411, "length_required")


@pytest.mark.parametrize("kind", [FORM, JSON])
def test_a_chunked_body_may_be_too_long(kind: str) -> None:
    body = b'{"stuff": "%s"}' if kind == JSON else b"stuff=%s"
    with connect() as link:
        link.sendall(request("/stuff", kind, body % (b"x" * (3 << 20)), None) + b"0\r\n\r\n")
        got, said = answer(link)
    assert (got, json.loads(said)["code"]) == (413, "body_too_large")


def test_short_chunked_json_is_taken() -> None:
    with connect() as link:
        link.sendall(request("/stuff", JSON, b'{"stuff": "by and by"}', None) + b"0\r\n\r\n")
        assert answer(link)[0] == 201


@pytest.mark.parametrize("path", ["/stuff", "/users"])
def test_who_sends_too_much_before_reading_gets_the_answer(path: str) -> None:
    for _ in range(3):
        send = urllib.request.Request(URL + path, b"x" * (8 << 20), {"Content-Type": FORM})  # noqa: S310
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(send, timeout=30, context=TLS)  # noqa: S310
        assert caught.value.code == 413
        assert json.load(caught.value)["code"] == "body_too_large"


def test_who_waits_to_be_told_is_told_before_he_sends_too_much() -> None:
    with connect() as link:
        link.sendall(request("/stuff", FORM, b"", 8 << 20, Expect="100-continue"))
        assert answer(link)[0] == (100 if PROXY in ("haproxy", "apache") else 413)  # they ask for bodies themselves


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /version HTTP/1.1\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: \r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: a\r\n", 200),
        (b"GET /version HTTP/1.0\r\n", 200),
        (b"GET /stuff?filter=" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n", 414),
    ],
)
def test_http_1_1_names_one_host_and_a_target_has_a_bound(head: bytes, status: int) -> None:
    with connect() as link:
        link.sendall(head.replace(b" /", b" " + PLACE.path.encode() + b"/", 1) + b"Connection: close\r\n\r\n")
        got, body = answer(link)
    assert got == status
    if status != 200 and PROXY != "haproxy":
        assert json.loads(body)["status"] == status


def test_slow_bodies_are_ended_and_hold_nobody_else_up(client: Any) -> None:
    slow = [connect("127.0.0.2") for _ in range(16)]
    for number, link in enumerate(slow):
        link.sendall(request("/stuff", FORM, b"stuff=slow" * (1 if number % 4 else 2000), 100_000))
    began = time.monotonic()
    time.sleep(0.3)
    for number in range(20):
        client.post("/stuff", 201, data={"stuff": f"quick {number}"})
    statuses = []
    for number, link in enumerate(slow):
        if number % 2:
            with suppress(OSError):
                link.sendall(b"x")
        status, said = answer(link)
        assert not status or json.loads(said)["status"] == status
        statuses.append(status)
        link.close()
    if PROXY == "nginx":  # hangs up
        assert set(statuses) == {0}
    else:
        assert set(statuses) <= {408, 503}
        assert 408 in statuses
    assert time.monotonic() - began < (30 if PROXY else 10)
    with connect("127.0.0.2") as link:
        link.sendall(request("/stuff", FORM, b"stuff=in time", 13))
        assert answer(link)[0] == 201
