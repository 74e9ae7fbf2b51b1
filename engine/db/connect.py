"""Reaching a server: the first that is fit, of those that are named, by a deadline whatever the others do. Imported by session.

Servers are tried in their order, each with a head start on the next (RFC 8305): in quiet times one connection is made, and a
host that takes packets and never answers costs that head start. psycopg and libpq would wait 2 s or more for each such host.
"""

import math
import select
import socket
import struct
import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_attempts, make_conninfo
from psycopg.pq import ConnStatus, PGconn, PollingStatus
from psycopg.pq.abc import PGconn as Link

HEAD_START = 0.1  # seconds
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # what every PostgreSQL answers with one byte, before any log-in


def connect(deadline: float, **parameters: Any) -> "psycopg.Connection[Any]":
    """Connect to the first server that is as `target_session_attrs` wants it.

    :param deadline: when to give up, in the seconds of `time.monotonic()`. Names are resolved before, by the system, which may
        take longer: name servers by address where the resolver may be away.
    :param parameters: libpq's.
    :raises psycopg.OperationalError: none is fit, or none answered.
    """
    attempts = conninfo_attempts(parameters)
    if (
        parameters.get("target_session_attrs") == "prefer-standby"
    ):  # NOTE psycopg says it of a first round, and nothing of a second
        for attempt in attempts:
            attempt.setdefault("target_session_attrs", "any")  # else PGTARGETSESSIONATTRS would
    racing: dict[Link, int] = {}
    turn, why = 0.0, "no server answers"
    try:
        while (attempts or racing) and (now := time.monotonic()) < deadline:
            if attempts and (now >= turn or not racing):
                link = PGconn.connect_start(make_conninfo("", **attempts.pop(0)).encode())
                racing[link], turn = select.POLLOUT, now + HEAD_START
            refused = [link for link in racing if link.status == ConnStatus.BAD]
            for link in refused:
                why, turn = link.get_error_message(), now
                del racing[link]
                link.finish()
            if refused:
                continue
            poll = select.poll()
            for link, events in racing.items():
                poll.register(link.socket, events)
            until = min(deadline, turn) if attempts else deadline
            ready = {number for number, _ in poll.poll(math.ceil(1000 * (until - now)))}
            for link in [link for link in racing if link.socket in ready]:
                match link.connect_poll():
                    case PollingStatus.OK:
                        del racing[link]
                        link.nonblocking = 1
                        return psycopg.Connection(link)
                    case PollingStatus.READING:
                        racing[link] = select.POLLIN
                    case PollingStatus.WRITING:
                        racing[link] = select.POLLOUT
        raise psycopg.OperationalError(f"connection failed: {why}")
    finally:
        for link in racing:
            link.finish()


def answers(link: Link, patience: float) -> bool:
    """Whether the server at the other end of a silent connection is still there, within some seconds."""
    host, port = (link.hostaddr or link.host).decode(), link.port.decode()
    local = host.startswith(("/", "@"))
    family = socket.AF_UNIX if local else socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as door:
            door.settimeout(patience)
            door.connect(f"{host}/.s.PGSQL.{port}" if local else (host, int(port)))
            if local:  # no host or network that could be gone; a server on a loaded machine may be slow to answer
                return True
            door.sendall(SSL_REQUEST)
            return door.recv(1) != b""
    except OSError:
        return False
