"""Sessions: connections to PostgreSQL that send named statements, wait with a deadline, and are pooled. Imported by database.

Statements go to libpq directly (psycopg.pq): that halves what a cursor costs, and lets BEGIN travel with the first statement.
Each is one blocking call, during which other threads run, or a batch of them, sent and waited for step by step; a thread of its
own watches over the waits and ends those that last.
"""

import ctypes
import logging
import math
import os
import random
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast
from weakref import WeakSet

import psycopg
from aiosql.utils import VAR_REF
from psycopg.adapt import Loader, Transformer
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from engine import errors
from engine.db.connect import answers
from engine.metrics import counters

log = logging.getLogger("stuff.session")


MOMENT = 0.05  # seconds, in which a database that is there takes a connection, and stays there


class Json(bytes):
    """A JSON text made by the database, sent as it is."""


class JsonLoader(Loader):
    def load(self, data: Any) -> Json:
        return Json(data)


class Statement(str):
    """The text of a named query with $1, $2... and the names of its parameters in that order."""

    name: bytes
    text: bytes
    parameters: list[str]
    fresh = apart = replanned = False  # words of the comment under its name

    @classmethod
    def make(cls, name: str, text: str) -> "Statement":
        names: list[str] = []

        def number(found: re.Match[str]) -> str:
            if found["dquote"] is not None or found["squote"] is not None:
                return found[0]
            if found["var_name"] not in names:
                names.append(found["var_name"])
            return f"{found['lead']}${names.index(found['var_name']) + 1}"

        self = cls(VAR_REF.sub(number, text))
        self.name, self.text, self.parameters = name.encode(), self.encode(), names
        return self

    def says(self, comment: str) -> None:
        """Take the words that steer from a query's comment."""
        self.fresh, self.apart, self.replanned = (word in comment for word in ("FRESH", "APART", "REPLANNED"))

    def values(self, named: dict[str, Any]) -> list[bytes | None]:
        """Parameters in PostgreSQL's text format."""
        values = []
        for name in self.parameters:
            value = named[name]
            if value is not None:
                value = str(value).encode()
                if b"\0" in value:  # libpq would silently cut there
                    raise errors.Problem(400, "a text cannot hold a NUL character")
            values.append(value)
        return values


def _sender(maps: Path) -> Callable[[PGconn], None]:
    """What ends a batch and sends it. psycopg's own keeps other threads from running until the server has been woken up.

    :param maps: names the libraries of this process (proc_pid_maps(5)); unless there is one libpq, psycopg's call serves.
    """
    found = set(re.findall(r"/\S*/libpq[-.]\S*$", maps.read_text(), re.MULTILINE)) if maps.exists() else set()
    if len(found) != 1:  # a server may bring another one, whose structures are not ours
        return lambda pg: pg.pipeline_sync()
    sync = ctypes.CDLL(found.pop()).PQpipelineSync
    sync.argtypes = [ctypes.c_void_p]

    def send(pg: Any) -> None:
        if not sync(pg.pgconn_ptr):
            raise psycopg.OperationalError("the connection is closed")

    return send


send = _sender(Path("/proc/self/maps"))


class Silence(psycopg.OperationalError):
    """The server said nothing for too long."""


Command = tuple[Statement, Sequence[bytes | None]]
DONE = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


class Session:
    """One connection, on which statements are prepared once and every wait ends.

    :param wait: longest silence of the server, in seconds, before the connection is given up.
    :param patience: the same of a server that is gone, in seconds: half of them, then it is asked, and has the other half.
    :param pooled: behind a transaction pooler: nothing is prepared, nothing outlives a transaction.
    """

    def __init__(self, connection: "psycopg.Connection[Any]", wait: float, patience: float, pooled: bool) -> None:
        self.connection = connection
        self.connection.add_notice_handler(self._notice)
        self.pg = self.connection.pgconn
        self.rows = Transformer(self.connection)
        self.pooled, self.prepared = pooled, set[bytes]()
        self._columns: dict[bytes, list[str]] = {}  # of what is prepared
        self.wait, self.patience = wait, patience
        self.replicated = True  # whether all it committed is where it was to be kept
        self.until = math.inf  # when it has served long enough, in the seconds of `time.monotonic()`
        self.since = 0.0  # when the wait at hand began, in the seconds of `time.monotonic()`; 0: there is none
        self.used = 0.0  # when the last one began
        self.asked = 0.0, 0.0  # about which wait the server was asked, and after how much of it to ask again
        self.silent = False  # whether it was given up
        self._line = socket.socket(fileno=os.dup(self.pg.socket))  # a handle for the watch
        self._closing = threading.Lock()
        self.poll = select.poll()
        self.poll.register(self.pg.socket, select.POLLIN)
        watch.add(self)

    def alive(self) -> bool:
        """Whether the connection is fit for a request; costs two system calls, no round trip."""
        try:
            self.pg.consume_input()  # what came while idle: a notice, or a farewell
            self.pg.consume_input()  # and then the end. poll() would hand the interpreter to another thread
        except psycopg.Error:
            return False
        return self.idle()

    def _notice(self, diagnostic: Any) -> None:
        # the wait for the standbys was cancelled: the server says COMMIT nevertheless, but a failover may lose it
        if diagnostic.source_function == "SyncRepWaitForLSN":
            self.replicated = False

    def idle(self) -> bool:
        return bool(self.pg.transaction_status == TransactionStatus.IDLE)

    def lost(self) -> bool:
        """Whether the connection is gone."""
        return bool(self.pg.status != ConnStatus.OK)

    def close(self) -> None:
        watch.remove(self)
        with self._closing:
            self._line.close()
        with suppress(ValueError):  # it was closed before
            self.connection.remove_notice_handler(self._notice)  # a cycle, which would stay until the collector comes by
        self.connection.close()

    def cut(self, since: float) -> None:
        """End the wait that began then, if it still lasts; from another thread."""
        with self._closing:
            if self.since == since and self._line.fileno() >= 0:
                self.silent = True
                with suppress(OSError):  # it has ended by itself
                    self._line.shutdown(socket.SHUT_RDWR)

    def checked(self, *results: PGresult | None) -> PGresult:
        """The last of the results of statements, none of which failed.

        :raises psycopg.Error: one did; Silence where the server said nothing for too long.
        """
        for result in results:
            if result is None or result.status not in DONE:
                if self.silent:
                    raise Silence("no answer within the deadline")
                raise psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("no result")
        return cast(PGresult, results[-1])

    def run(self, statement: Statement, values: list[bytes | None]) -> PGresult:
        """One statement in one round trip."""
        self.used = self.since = time.monotonic()
        try:
            if self.pooled or statement.replanned:
                return self.checked(self.pg.exec_params(statement.text, values))
            if statement.name not in self.prepared:
                self._prepare(statement)
            return self.checked(self.pg.exec_prepared(statement.name, values))  # type: ignore[arg-type]
        finally:
            self.since = 0.0

    def _prepare(self, statement: Statement) -> None:
        self.checked(self.pg.prepare(statement.name, statement.text))
        self.prepared.add(statement.name)

    def batch(self, *commands: Command) -> list[PGresult | None]:
        """Several statements in one round trip (libpq's pipeline mode), to be checked one by one: the first error ends them."""
        pg, results = self.pg, list[PGresult | None]()
        self.used = self.since = time.monotonic()
        try:
            for statement, _ in commands:
                if statement.name not in self.prepared and not (self.pooled or statement.replanned):
                    self._prepare(statement)
            pg.enter_pipeline_mode()
            for statement, values in commands:
                if self.pooled or statement.replanned:
                    pg.send_query_params(statement.text, values)
                else:
                    pg.send_query_prepared(statement.name, values)
            send(pg)
            if pg.flush():
                self._flush()
            else:
                self._more()
            for _ in commands:
                results.append(self._result())
                pg.get_result()  # nothing more of this one, which libpq knows by itself
            self._result()  # the end of all
            pg.exit_pipeline_mode()
            return results
        except psycopg.OperationalError as error:
            raise (Silence("no answer within the deadline") if self.silent else error) from error
        finally:
            self.since = 0.0

    def _flush(self) -> None:
        while self.pg.flush():
            self.poll.modify(self.pg.socket, select.POLLIN | select.POLLOUT)
            self._more()
            self.poll.modify(self.pg.socket, select.POLLIN)

    def _more(self) -> None:
        self.poll.poll()
        self.pg.consume_input()

    def _result(self) -> PGresult | None:
        while self.pg.is_busy():  # get_result() would wait as well, but keep all other threads from running
            self._more()
        return self.pg.get_result()

    def load(self, statement: Statement, result: PGresult) -> list[dict[str, Any]]:
        """The rows of a statement's result, as dictionaries."""
        if not result.nfields:
            return []
        names = self._columns.get(statement.name)
        if names is None:
            names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
            if statement.name in self.prepared:  # its columns stay what they are, or it fails
                self._columns[statement.name] = names
        self.rows.set_pgresult(result)
        rows = []
        for row in self.rows.load_rows(0, result.ntuples, tuple):
            rows.append(dict(zip(names, row, strict=True)))
        return rows


class Watch:
    """A thread that ends the waits for servers that are gone: statements are blocking calls, which nothing else would end."""

    period = 0.05  # seconds between two looks

    def __init__(self) -> None:
        self._sessions: set[Session] = set()
        self._pools: WeakSet[Pool] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, session: Session) -> None:
        """Watch over a session from now on."""
        with self._lock:
            self._sessions.add(session)
            if self._thread is None or not self._thread.is_alive():  # the first one, or the first one after a fork
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()

    def count(self, pool: "Pool") -> None:
        """Tell the metrics of a pool from now on."""
        with self._lock:
            self._pools.add(pool)

    def remove(self, session: Session) -> None:
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


class Pool:
    """At most `size` sessions, each lent to one request; connecting holds no lock, so a dead host delays nobody else.

    :param make: makes a session by a deadline, in the seconds of `time.monotonic()`.
    :param patience: how long a request waits for a session, in seconds; a connection is made in half of that or not at all.
    :param name: what the metrics call it.
    :param age: seconds after which a session is replaced, up to a quarter sooner so that not all are at once: a server that has
        come back gets its share again, one that should have been left for another is.
    """

    def __init__(self, make: Callable[[float], Session], size: int, patience: float, name: str, age: float = math.inf) -> None:
        self._make, self.size, self.patience, self.name, self.age = make, size, patience, name, age
        self._in_use = counters.at("stuff_pool_in_use", pool=name)
        self._waits = counters.at("stuff_pool_wait_seconds", pool=name)
        counters.set("stuff_pool_size", size, pool=name)
        self._free: SimpleQueue[None] = SimpleQueue()  # a thing for each session that may be lent; a semaphore costs 3 us more
        for _ in range(size):
            self._free.put(None)
        self._idle: deque[Session] = deque()
        self._away = False  # as far as is known
        self._suspect = -math.inf  # when a session was lost: those not used since may be, too
        self.failed = -math.inf  # when it was last in vain to connect, in the seconds of `time.monotonic()`
        self._asking = threading.Lock()  # by whoever finds out whether it is back
        watch.count(self)

    def take(self, look: bool = False) -> Session:
        """A session that is fit for use.

        :param look: even at one that was used a moment ago, as what is asked of it cannot be asked again.
        :raises errors.Problem: none became free in time, or none could be connected.
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
                fresh = session.used > max(now - MOMENT, self._suspect) and not look
                if session.until > now and (fresh or session.alive()):
                    return session
                session.close()
        except BaseException:
            self._free.put(None)
            raise

    def _wait(self) -> None:
        began = time.perf_counter()
        try:
            self._free.get(timeout=self.patience)
        except Empty:
            counters.count("stuff_pool_refused_total", pool=self.name)
            log.warning("no session free within %s s", self.patience)
            raise errors.Problem(503) from None
        finally:
            counters.observe(self._waits, time.perf_counter() - began)

    def connected(self) -> Session:
        """A session that the pool does not count.

        :raises psycopg.Error: none can be had in half the patience.
        """
        return self._make(time.monotonic() + self.patience / 2)

    def _connected(self) -> Session:
        """A new session; while the database is away one request at a time asks for it, the others give it a moment."""
        asking = self._away and self._asking.acquire(blocking=False)
        if self._away and not asking:
            if self._asking.acquire(timeout=MOMENT):  # the other one was answered
                self._asking.release()
            if self._away:
                raise errors.Problem(503)
        try:
            session = self.connected()
            session.until = time.monotonic() + self.age * random.uniform(0.75, 1)  # noqa: S311
            self._away = False
            counters.count("stuff_connections_total", pool=self.name, outcome="made")
        except psycopg.Error as error:
            self._away, self.failed = True, time.monotonic()
            counters.count("stuff_connections_total", pool=self.name, outcome="failed")
            raise errors.from_database(error) from error
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

    def suspect(self) -> None:
        """One session was lost: trust the others no more than that."""
        self._suspect = time.monotonic()

    def doubt(self) -> None:
        """Trust nothing of a server that fell silent: neither its idle sessions nor that it takes new ones."""
        self._away = True
        self.close()

    def close(self) -> None:
        with suppress(IndexError):  # others take them as well
            while True:
                self._idle.pop().close()
