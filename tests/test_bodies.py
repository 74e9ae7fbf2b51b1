"""Bodies that do not come: who waits, and what the others are told."""

import io
import threading
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

    def __init__(self) -> None:
        from engine.http.bodies import Bodies

        self.front = Bodies(lambda environ, _: [environ["wsgi.input"].read(), environ.get("stuff.body")], 10, 1)

    def send(self, stream: Any, **environ: Any) -> list[Any]:
        return list(self.front({"wsgi.input": stream} | environ, None))


def test_a_body_is_read() -> None:
    server = Server()
    for _ in range(3):
        assert server.send(io.BytesIO(b"abcd"), CONTENT_LENGTH="3") == [b"abc", None]
    assert server.send(io.BytesIO(b"x" * 99), HTTP_TRANSFER_ENCODING="chunked") == [b"x" * 11, None]


@pytest.mark.parametrize("length", ["", "0", "11", "x"])
def test_no_body_and_too_long_ones_are_left_alone(length: str) -> None:
    assert Server().send(io.BytesIO(b"abc"), CONTENT_LENGTH=length) == [b"abc", None]


def test_beside_bodies_that_do_not_come_a_further_one_is_refused_and_no_body_is_needed() -> None:
    server, late, answers = Server(), Late(), list[Any]()
    waiting = threading.Thread(target=lambda: answers.append(server.send(late, CONTENT_LENGTH="4")))
    waiting.start()
    assert late.asked.wait(30)
    assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3") == [b"", 503]
    assert server.send(io.BytesIO(b"")) == [b"", None]
    late.come.set()
    waiting.join()
    assert answers == [[b"late", None]]
    assert server.send(io.BytesIO(b"abc"), CONTENT_LENGTH="3") == [b"abc", None]


def test_a_client_that_goes_away_leaves_room() -> None:
    class Gone:
        def read(self, _: int) -> bytes:
            raise ConnectionError

    server = Server()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            server.send(Gone(), CONTENT_LENGTH="3")


def test_the_client_is_told(client: Any) -> None:
    response = client._client.post("/stuff", data=b"", environ_overrides={"stuff.body": 503})
    assert (response.status_code, response.json["status"]) == (503, 503)
    assert response.headers["X-Request-Id"] == response.json["request_id"]
    assert response.headers["Retry-After"]
