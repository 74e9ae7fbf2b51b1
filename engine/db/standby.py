"""Reads on standbys: how far in the log of the primary one must have come to be asked. Imported by the unit of work.

A WAL position (LSN) is a place in that log, as a number of bytes. Reads of everybody must be answered from no earlier than
where the primary was a while ago. Why so: docs/decisions/054-reads-on-standbys.md
"""

import math
import threading
import time
from collections import deque

import psycopg

from engine.db.pool import Pool
from engine.db.statement import Statement
from engine.problem import Problem

# NOTE what is inserted into the log, not what is flushed: with synchronous_commit off, a commit may be answered before it is
POSITION = Statement.make("_position", "SELECT (pg_current_wal_insert_lsn() - '0/0')::BIGINT")
# NOTE a server that is no standby must have come as far as well: it may be an old primary that came back
REACHED = Statement.make(
    "_reached",
    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'"
    " >= :position::BIGINT",
)


class Behind(Problem):
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
        except (psycopg.Error, Problem):  # counted as connections that fail
            self.pool.close()
            return
        if began - self._last > 2 * self.period:
            self._samples.clear()
        self._samples.append(position)
        self._last, self._position = began, self._samples[0]
