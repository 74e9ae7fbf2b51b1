"""Reads on standbys: how far in the log of the primary one must have come to be asked. Imported by database.

A position is a place in that log, as a number of bytes. The answer to a write tells where it ends, and the caller sends that
back with its reads: by itself if it keeps cookies, else as a header. Reads of everybody must be answered from no earlier than
where the primary was a while ago. Why so: docs/decisions/054-reads-on-standbys.md
"""

import math
import re
import threading
import time
from collections import deque

import psycopg
from FlaskSimpleAuth import Request, Response

from engine import errors
from engine.db.session import Pool, Statement

HEADER = "Consistency-Token"  # of a write's answer, and of a later request
COOKIE = "consistency-token"
TOKEN = re.compile("[0-9]{1,18}")  # fits a BIGINT

# NOTE what is inserted into the log, not what is flushed: with synchronous_commit off, a commit may be answered before it is
POSITION = Statement.make("_position", "SELECT (pg_current_wal_insert_lsn() - '0/0')::BIGINT")
# NOTE a server that is no standby must have come as far as well: it may be an old primary that came back
REACHED = Statement.make(
    "_reached",
    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'"
    " >= :position::BIGINT",
)


class Behind(errors.Problem):
    """The server has not come as far as a read requires: the primary has."""


class Bound:
    """How old a read may be: the position that the primary had some time ago, sampled by a thread that the first read starts.

    While the primary is away the position stays, and reads go on.

    :param pool: of one session to the primary.
    :param stale: seconds after which a write that was answered must be seen by all.
    """

    def __init__(self, pool: Pool, stale: float) -> None:
        self.pool, self.stale = pool, stale
        self.period = stale / 5  # the oldest of four samples is that of three periods ago; one to the next, one in reserve
        self._samples: deque[int] = deque(maxlen=4)
        self._last, self._position = -math.inf, 0
        self._thread: threading.Thread | None = None
        self._lock, self._over = threading.Lock(), threading.Event()

    def position(self) -> int:
        """Where a server must have come to answer a read; 0 as long as the primary was never seen."""
        if not self._thread:
            self._start()
        return self._position

    def _start(self) -> None:
        with self._lock:
            if not self._thread:
                self._over.clear()
                self.sample()
                self._thread = threading.Thread(target=self._run, name="standbys", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self.period):
            self.sample()

    def close(self) -> None:
        """End the thread; the next read starts another."""
        with self._lock:
            self._over.set()
            if self._thread:
                self._thread.join()
            self._thread = None
            self.pool.close()

    def sample(self) -> None:
        """Ask the primary where it is; after a while without an answer, its present position is required at once."""
        began = time.monotonic()
        try:
            session = self.pool.take()
            try:
                position = int(session.run(POSITION, []).get_value(0, 0) or 0)
            finally:
                self.pool.give(session)
        except (psycopg.Error, errors.Problem):  # counted as connections that fail
            self.pool.close()
            return
        if began - self._last > 2 * self.period:
            self._samples.clear()
        self._samples.append(position)
        self._last, self._position = began, self._samples[0]


def asked(request: Request) -> int:
    """The position that a request brings: of a client that has just written; 0 if none.

    :raises errors.Problem: 400 for a header that never was a token; such a cookie is nobody's fault, and ignored.
    """
    header, cookie = request.headers.get(HEADER, "0"), request.cookies.get(COOKIE, "0")
    if not TOKEN.fullmatch(header):
        raise errors.Problem(400, f"{HEADER} is not what the answer to a write said", "invalid_consistency_token")
    return max(int(header), int(cookie) if TOKEN.fullmatch(cookie) else 0)


def tell(response: Response, request: Request, position: int, stale: float) -> None:
    """Tell a client where its write ends; later than twice the bound, all reads are past it."""
    response.headers[HEADER] = str(position)
    response.set_cookie(
        COOKIE,
        str(position),
        max_age=math.ceil(2 * stale),
        path=request.script_root or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
