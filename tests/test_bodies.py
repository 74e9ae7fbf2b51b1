"""Bodies that do not come: who waits, and what the others are told."""

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.internal


class Late:
    """A body that arrives when told."""

    def __init__(self) -> None:
        self.asked, self.come = threading.Event(), threading.Event()

    def read(self, size: int) -> bytes:
        self.asked.set()
        assert self.come.wait(30)
        return b"late"[:size]


class Server:
    """An application that tells what it was called with, behind a Bodies."""

    def __init__(self, readers: int = 1, timeout: float = 30) -> None:
        from engine.http.bodies import Bodies

        def told(environ: dict[str, Any], _: Any) -> list[Any]:
            return [environ["wsgi.input"].read(), environ.get("engine.refused")]

        self.front = Bodies(told, 10, readers, timeout)

    def send(self, stream: Any, **environ: Any) -> list[Any]:
        return list(self.front({"wsgi.input": stream, "SERVER_PORT": "1"} | environ, None))


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}
LONG = [b"", (None, 413)]


def test_a_body_is_read() -> None:
    server = Server()
    for _ in range(3):
        assert server.send(io.BytesIO(b"abcd"), CONTENT_LENGTH="3") == [b"abc", None]
    assert server.send(io.BytesIO(b"abcd"), **CHUNKED) == [b"abcd", None]


@pytest.mark.parametrize("length", ["", "0"])
def test_no_body_is_left_alone(length: str) -> None:
    assert Server().send(io.BytesIO(b"abc"), CONTENT_LENGTH=length) == [b"abc", None]


@pytest.mark.parametrize("length", ["x", "-1", "+3", "1.5", "٣"])
def test_a_length_is_a_number(length: str) -> None:
    assert Server().send(io.BytesIO(b"abc"), CONTENT_LENGTH=length) == [b"", ("Content-Length must be a number", 400)]


def test_a_cut_body_is_refused() -> None:
    _, (message, status) = Server().send(io.BytesIO(b"ab"), CONTENT_LENGTH="3")
    assert (message, status) == ("the request body is shorter than its Content-Length", 400)


def test_a_body_that_is_too_long_is_read_before_it_is_refused_up_to_a_limit() -> None:
    from engine.http import bodies

    stream = io.BytesIO(b"x" * 200_000)
    assert Server().send(stream, CONTENT_LENGTH="200000") == LONG
    assert stream.tell() == 200_000
    for environ in ({"CONTENT_LENGTH": str(bodies.DROPPED + 1)}, {"CONTENT_LENGTH": "200000", "HTTP_EXPECT": "100-continue"}):
        stream.seek(0)
        assert Server().send(stream, **environ) == LONG
        assert stream.tell() == 0
    assert Server().send(io.BytesIO(b"x" * 11), **CHUNKED) == LONG


@contextmanager
def late(server: Server, *addresses: str) -> Iterator[list[Any]]:
    """Bodies of these addresses that are being read; their answers, once they have come."""
    streams, answers = [Late() for _ in addresses], list[Any]()

    def send(stream: Late, address: str) -> None:
        answers.append(server.send(stream, CONTENT_LENGTH="4", REMOTE_ADDR=address))

    threads = [threading.Thread(target=send, args=pair) for pair in zip(streams, addresses, strict=True)]
    for stream, thread in zip(streams, threads, strict=True):
        thread.start()
        assert stream.asked.wait(30)
    yield answers
    for stream, thread in zip(streams, threads, strict=True):
        stream.come.set()
        thread.join()


def test_beside_bodies_that_do_not_come_a_further_one_is_refused_and_no_body_is_needed() -> None:
    server = Server()
    with late(server, "192.0.2.1") as answers:
        for _ in range(2):
            assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3") == [b"", (None, 503)]
        assert server.send(io.BytesIO(b"")) == [b"", None]
    assert answers == [[b"late", None]]
    assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3") == [b"abc", None]


@pytest.mark.parametrize(
    ("slow", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("odd:", "odd:", "even:"),
    ],
)
def test_one_address_leaves_room_for_others(slow: str, same: str, other: str) -> None:
    server = Server(readers=3)
    with late(server, slow, slow):
        assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3", REMOTE_ADDR=same) == [b"", (None, 503)]
        assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3", REMOTE_ADDR=other) == [b"abc", None]


@pytest.mark.parametrize("error", [OSError, ConnectionError])
def test_a_server_that_tells_of_a_cut_is_heard(error: type[Exception]) -> None:
    class Gone:
        def read(self, _: int) -> bytes:
            raise error

    server = Server()
    for _ in range(2):
        assert server.send(Gone(), CONTENT_LENGTH="3") == [b"", ("the request body is cut", 400)]


def test_a_slow_body_ends_with_its_connection() -> None:
    """The server's end of a connection is one of this process, as in Granian."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        far = socket.create_connection(("127.0.0.1", port))
        near, _ = listener.accept()
        busy = socket.create_connection(("127.0.0.1", port))
        other, _ = listener.accept()
        elsewhere, idle = socket.socketpair()
        with near, busy, other, elsewhere, idle, near.makefile("rb") as stream:
            far.sendall(b"ab")
            server = Server(timeout=0.4)

            def keep_sending() -> None:
                for _ in range(40):
                    other.sendall(b"x")
                    time.sleep(0.05)

            sending = threading.Thread(target=keep_sending)
            sending.start()
            answer = server.send(stream, CONTENT_LENGTH="3", SERVER_PORT=str(port), REMOTE_ADDR="127.0.0.1")
            assert answer == [b"", (None, 408)]
            got = far.recv(1000)
            assert got.startswith(b"HTTP/1.1 408 ")
            assert json.loads(got.partition(b"\r\n\r\n")[2])["code"] == "request_too_slow"
            sending.join()
            assert len(busy.recv(100)) == 40
            busy.sendall(b"x")
            assert other.recv(1) == b"x", "on which something was sent is not ended"
        far.close()


def test_the_client_is_told(client: Any) -> None:
    response = client._client.post("/stuff", data=b"", environ_overrides={"engine.refused": (None, 503)})
    assert (response.status_code, response.json["status"]) == (503, 503)
    assert response.headers["X-Request-Id"] == response.json["request_id"]
    assert response.headers["Retry-After"]
