"""A thread that ends the waits for servers that are gone. It knows of a session only since when it waits and how to cut it."""

import threading
import time
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

import psycopg
from psycopg.pq.abc import PGconn

from engine.db.connect import answers


class Waiting(Protocol):
    """A session that may wait."""

    pg: PGconn
    since: float
    wait: float
    patience: float
    asked: tuple[float, float]

    def cut(self, since: float) -> None: ...


class Lending(Protocol):
    """A pool that tells the metrics how many sessions are lent."""

    def tell(self) -> None: ...


class Watch:
    """A thread that ends the waits for servers that are gone: statements are blocking calls, which nothing else would end."""

    period = 0.05  # seconds between two looks

    def __init__(self) -> None:
        self._sessions: set[Waiting] = set()
        self._pools: WeakSet[Lending] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, session: Waiting) -> None:
        """Watch over a session from now on."""
        with self._lock:
            self._sessions.add(session)
            if self._thread is None or not self._thread.is_alive():  # the first one, or the first one after a fork
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()

    def count(self, pool: Lending) -> None:
        """Tell the metrics of a pool from now on."""
        with self._lock:
            self._pools.add(pool)

    def remove(self, session: Waiting) -> None:
        with self._lock:
            self._sessions.discard(session)

    def _run(self) -> None:
        while True:
            time.sleep(self.period)
            self.look()

    def look(self) -> None:
        """Cut the sessions that wait for a server which is at work for too long, or is not there any more; count those lent."""
        there: dict[tuple[bytes, bytes], bool] = {}
        with self._lock:
            sessions, pools = list(self._sessions), list(self._pools)
        for pool in pools:
            pool.tell()
        for session in sessions:
            if not (began := session.since) or (waited := time.monotonic() - began) < session.patience / 2:
                continue
            if waited < session.wait:
                if session.asked[0] == began and waited < session.asked[1]:
                    continue
                with suppress(psycopg.Error):  # it was closed meanwhile
                    where = session.pg.host, session.pg.port
                    if where not in there:
                        there[where] = answers(session.pg, session.patience / 2)
                    if there[where]:
                        session.asked = began, 2 * waited  # what works long is asked less often
                        continue
            session.cut(began)


watch = Watch()
