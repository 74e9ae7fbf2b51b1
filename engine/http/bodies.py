"""Request bodies, read whole before anything else: cut and over-long ones are refused, slow ones are ended.

Granian hands a request over with its headers. The thread that reads the body waits for it without a time limit, and a read
error looks like the end of the body. Hence:
- the length is compared with Content-Length: a shorter body is 400, and nothing is done. A cut chunked body cannot be told from
  a whole one: wire.py takes JSON objects only, which have an end of their own;
- few threads read at once, and fewer for one address: a further body is 503, unread. One that is there is read in no time;
- a body must come at a minimum rate, else its connection is closed with 408;
- a body that is too long is read and dropped, up to a limit, because a client that still sends would not see the answer.

NOTE a read cannot be given up: to answer while another thread reads, Granian 2.8 waits for that read and keeps the GIL.
Servers and proxies that send on whole requests, or have limits of their own, make the second and third point idle.
"""

import io
import ipaddress
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from glob import iglob
from typing import Any

from FlaskSimpleAuth import Flask

from engine.problem import CODES

PATIENCE = 0.1  # seconds to wait for other bodies to be read
STEP = 1 << 16  # bytes read at once
DROPPED = 16 << 20  # bytes of an over-long body that are read before it is refused
RATE = 1 << 14  # bytes a second at which a long body must come
SENT = struct.Struct("44xI")  # tcpi_last_data_sent of Linux's struct tcp_info: milliseconds since we sent something


class Reading:
    """A body that is being read: its client, the peer and the port of its connection, bytes so far, whether it was ended."""

    __slots__ = "address", "cut", "got", "peer", "port", "since"

    def __init__(self, environ: dict[str, Any]) -> None:
        self.address = network(environ.get("REMOTE_ADDR") or "")
        self.peer: str = environ.get("werkzeug.proxy_fix.orig", environ).get("REMOTE_ADDR") or ""
        self.port: str = environ.get("SERVER_PORT") or ""
        self.since, self.got, self.cut = time.monotonic(), 0, False


class Bodies:
    """A WSGI application in front of another: `engine.body` in the environment is the body, `engine.refused` why it is none.

    :param most: bytes of a body.
    :param readers: bodies that may be read at once; of one address one less.
    :param timeout: seconds in which a body must come, and one more for each 16 KiB of it.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], most: int, readers: int, timeout: float) -> None:
        self.application, self.most, self.readers, self.timeout = application, most, readers, timeout
        self._lock, self._reading = threading.Lock(), list[Reading]()
        self._watch: threading.Thread | None = None

    @property
    def reading(self) -> int:
        """How many bodies are being read."""
        return len(self._reading)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        if length != "0" or "HTTP_TRANSFER_ENCODING" in environ:
            body = self._body(environ, None if "HTTP_TRANSFER_ENCODING" in environ else length)
            if isinstance(body, bytes):
                environ["engine.body"] = body
            else:
                environ["engine.refused"], body = body, b""
            environ["wsgi.input"] = io.BytesIO(body)
        return self.application(environ, start_response)

    def _body(self, environ: dict[str, Any], told: str | None) -> bytes | tuple[str | None, int]:
        """The body, or the message and the status of a refusal."""
        if told is not None and not (told.isascii() and told.isdigit()):
            return "Content-Length must be a number", 400
        length = DROPPED if told is None else int(told)
        if length > DROPPED or (length > self.most and told and "HTTP_EXPECT" in environ):  # who waits has not sent it yet
            return None, 413
        if not (mine := self._enter(environ)):
            return None, 503
        try:
            body = self._read(environ["wsgi.input"].read, length, mine)
        except OSError:  # of servers that tell a read error
            return "the request body is cut", 400
        finally:
            self._leave(mine)
        if mine.cut:
            return None, 408
        if told and mine.got < length:
            return "the request body is shorter than its Content-Length", 400
        return body if mine.got <= self.most else (None, 413)

    def _read(self, read: Callable[[int], bytes], length: int, mine: Reading) -> bytes:
        """Read so many bytes, or all that come; those beyond the most are dropped."""
        parts = []
        while mine.got < length and (part := read(min(STEP, length - mine.got))):
            mine.got += len(part)
            if mine.got <= self.most:
                parts.append(part)
        return b"".join(parts)

    def _enter(self, environ: dict[str, Any]) -> Reading | None:
        """Take a place among those that read; None if there is none in time, at once if those before are slow."""
        mine = Reading(environ)
        while True:
            with self._lock:
                rivals = [other for other in self._reading if other.address == mine.address]
                if len(rivals) < max(1, self.readers - 1):
                    rivals = self._reading.copy()
                    if len(rivals) < self.readers:
                        self._reading.append(mine)
                        if not self._watch:
                            self._watch = threading.Thread(target=self.watch, daemon=True)
                            self._watch.start()
                        return mine
            now = time.monotonic()
            if now - mine.since > PATIENCE or all(now - other.since > PATIENCE for other in rivals):
                return None
            time.sleep(PATIENCE / 20)

    def _leave(self, mine: Reading) -> None:
        with self._lock:
            self._reading.remove(mine)

    def watch(self) -> None:
        """End what is too slow, for ever."""
        while True:
            time.sleep(min(1, self.timeout / 4))
            for one in self._reading.copy():
                age = time.monotonic() - one.since
                if age > self.timeout + one.got / RATE:
                    one.cut = True
                    close(one.peer, one.port, age - self.timeout / 4)


def network(address: str) -> str:
    """An address as what one client has of them: of IPv6 the first 64 bits."""
    if ":" not in address or address.startswith("::ffff:"):
        return address
    try:
        return str(ipaddress.ip_network((address.split("%")[0], 64), strict=False))
    except ValueError:
        return address


def close(peer: str, port: str, quiet: float) -> None:
    """End connections of a client, with 408.

    WSGI does not tell the connection of a request: all from this address to our port on which nothing was sent for so long are
    ended. Besides that of the slow body these are idle ones, which may be closed at any time, as no request takes as long.

    :param peer: address of the client, :param port: ours, :param quiet: seconds.
    """
    code, message = CODES[408]
    body = json.dumps({"error": message, "status": 408, "code": code, "request_id": None}).encode() + b"\n"
    head = "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\n"
    late = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for name in iglob("/proc/self/fd/*"):  # Linux alone
        try:
            if os.readlink(name).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name.rpartition("/")[2]))) as link:
                    ends = link.getpeername()[0], str(link.getsockname()[1])
                    if ends == (peer, port):
                        (sent,) = SENT.unpack_from(link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SENT.size))
                        if sent > 1000 * quiet:
                            link.send(late, socket.MSG_DONTWAIT)
                            link.shutdown(socket.SHUT_RDWR)
        except (OSError, IndexError):  # closed meanwhile, or no TCP
            continue


def init_app(app: Flask) -> None:
    """Read bodies before anything else."""
    conf = app.config
    readers, timeout = conf["BODY_READERS"], conf["BODY_TIMEOUT"]
    app.wsgi_app = app.extensions["bodies"] = Bodies(app.wsgi_app, conf["MAX_CONTENT_LENGTH"], readers, timeout)
