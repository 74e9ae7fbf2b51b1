"""Pools of sessions: each lent to one request at a time. Imported by the unit of work and by reads on standbys."""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

import psycopg

from engine.db.errors import from_database
from engine.db.session import Session
from engine.db.watch import watch
from engine.metrics import counters
from engine.problem import Problem

log = logging.getLogger("engine.pool")

MOMENT = 0.05  # seconds, in which a database that is there takes a connection, and stays there


class Pool:
    """At most `size` sessions, each lent to one request; connecting holds no lock, so a dead host delays nobody else.

    :param make: makes a session by a deadline, in the seconds of `time.monotonic()`.
    :param timeout: how long a request waits for a session, in seconds; a connection is made in half of that or not at all.
    :param name: what the metrics call it.
    :param age: seconds after which a session is replaced, up to a quarter sooner so that not all are at once: a server that has
        come back gets its share again, one that should have been left for another is.
    """

    def __init__(self, make: Callable[[float], Session], size: int, timeout: float, name: str, age: float = math.inf) -> None:
        self._make, self.size, self.timeout, self.name, self.age = make, size, timeout, name, age
        self._in_use = counters.at("stuff_pool_in_use", pool=name)
        self._waits = counters.at("stuff_pool_wait_seconds", pool=name)
        counters.set("stuff_pool_size", size, pool=name)
        self._free: SimpleQueue[None] = SimpleQueue()  # one token per free slot; a semaphore costs 3 us more
        for _ in range(size):
            self._free.put(None)
        self._idle: deque[Session] = deque()
        self._away = False  # as far as is known
        self._recheck = -math.inf  # when a session was lost: those not used since may end, too
        self.failed = -math.inf  # when it was last in vain to connect, in the seconds of `time.monotonic()`
        self._asking = threading.Lock()  # by whoever finds out whether it is back
        watch.count(self)

    def take(self, look: bool = False) -> Session:
        """A session that is fit for use.

        :param look: even at one that was used a moment ago, as what is asked of it cannot be asked again.
        :raises Problem: none became free in time, or none could be connected.
        """
        try:
            self._free.get_nowait()
        except Empty:
            self._wait()
        try:
            while True:
                try:
                    session = self._idle.pop()
                except IndexError:  # others take them as well
                    return self._connected()
                now = time.monotonic()
                fresh = session.used > max(now - MOMENT, self._recheck) and not look
                if session.until > now and (fresh or session.alive()):
                    if session.used > self._recheck or now > self._recheck + MOMENT:
                        return session
                    session.close()  # a server ends its sessions one after another: this one may be about to end
                    return self._connected()
                session.close()
        except BaseException:
            self._free.put(None)
            raise

    def _wait(self) -> None:
        began = time.perf_counter()
        try:
            self._free.get(timeout=self.timeout)
        except Empty:
            counters.count("stuff_pool_refused_total", pool=self.name)
            log.warning("no session free within %s s", self.timeout)
            raise Problem(503) from None
        finally:
            counters.observe(self._waits, time.perf_counter() - began)

    def connected(self) -> Session:
        """A session that the pool does not count.

        :raises psycopg.Error: none can be had in half the timeout.
        """
        return self._make(time.monotonic() + self.timeout / 2)

    def _connected(self) -> Session:
        """A new session; while the database is away one request at a time asks for it, the others give it a moment."""
        asking = self._away and self._asking.acquire(blocking=False)
        if self._away and not asking:
            if self._asking.acquire(timeout=MOMENT):  # the other one was answered
                self._asking.release()
            if self._away:
                raise Problem(503)
        try:
            session = self.connected()
            session.until = time.monotonic() + self.age * random.uniform(0.75, 1)  # noqa: S311
            self._away = False
            counters.count("stuff_connections_total", pool=self.name, outcome="made")
        except psycopg.Error as error:
            self._away, self.failed = True, time.monotonic()
            counters.count("stuff_connections_total", pool=self.name, outcome="failed")
            raise from_database(error) from error
        finally:
            if asking:
                self._asking.release()
        return session

    def give(self, session: Session) -> None:
        """Take a session back; one that is not idle is closed, and the server undoes what it was doing."""
        if session.idle():
            self._idle.append(session)
        else:
            session.close()
        self._free.put(None)

    def tell(self) -> None:
        """Tell the metrics how many sessions are lent."""
        counters.put(self._in_use, self.size - self._free.qsize())

    @property
    def away(self) -> bool:
        """Whether no server could be had when last asked."""
        return self._away

    def recheck(self) -> None:
        """One session was lost: look at the others before they are lent, and for a moment lend new ones."""
        self._recheck = time.monotonic()

    def mark_down(self) -> None:
        """Trust nothing of a server that fell silent: neither its idle sessions nor that it takes new ones."""
        self._away = True
        self.close()

    def close(self) -> None:
        with suppress(IndexError):  # others take them as well
            while True:
                self._idle.pop().close()
