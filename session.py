"""Sessions: connections to PostgreSQL that send named statements, wait with a deadline, and are pooled. Imported by database.

Statements go to libpq directly (psycopg.pq): that halves what a cursor costs, lets BEGIN travel with the first statement, and
puts a deadline on every wait.
"""

import logging
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from aiosql.utils import VAR_REF
from psycopg.adapt import Loader, Transformer
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

import errors
from connect import answers
from metrics import counters

log = logging.getLogger("stuff.session")


class Json(bytes):
    """A JSON text made by the database, sent as it is."""


class JsonLoader(Loader):
    def load(self, data: Any) -> Json:
        return Json(data)


class Statement(str):
    """The text of a named query with $1, $2... and the names of its parameters in that order."""

    name: bytes
    parameters: list[str]
    doc: str = ""  # the comment under its name: FRESH, APART, REPLANNED

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
        self.name, self.parameters = name.encode(), names
        return self

    def values(self, named: dict[str, Any]) -> list[bytes | None]:
        """Parameters in PostgreSQL's text format."""
        return [encode(named[name]) for name in self.parameters]


def encode(value: Any) -> bytes | None:
    """One parameter in PostgreSQL's text format; NUL, which libpq would silently cut at, is refused."""
    if value is None:
        return None
    text = str(value).encode()
    if b"\0" in text:
        raise errors.Problem(400, "a text cannot hold a NUL character")
    return text


class Silence(psycopg.OperationalError):
    """The server said nothing for too long."""


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
        self.prepared: set[bytes] | None = None if pooled else set()
        self.wait, self.patience = int(1000 * wait), int(1000 * patience)
        self.replicated = True  # whether all it committed is where it was to be kept
        self.poll = select.poll()
        self.poll.register(self.pg.socket, select.POLLIN)

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
        """Whether the server is gone; what was not committed is then undone."""
        return bool(self.pg.status != ConnStatus.OK)

    def close(self) -> None:
        self.connection.close()

    def _await(self) -> None:
        """Wait for the server: it may be at work, but must be there."""
        left, pause = self.wait, self.patience // 2
        while not self.poll.poll(min(left, pause)):
            left -= pause
            if left <= 0 or not answers(self.pg, self.patience / 2000):
                raise Silence("no answer within the deadline")
            pause *= 2  # what works long is asked less often

    def _flush(self) -> None:
        while self.pg.flush():
            self.poll.modify(self.pg.socket, select.POLLIN | select.POLLOUT)
            try:
                self._await()
            finally:
                self.poll.modify(self.pg.socket, select.POLLIN)
            self.pg.consume_input()

    def _result(self) -> PGresult | None:
        while self.pg.is_busy():
            self._await()
            self.pg.consume_input()
        return self.pg.get_result()

    def _send(self, statement: Statement, values: list[bytes | None]) -> None:
        if self.prepared is None or "REPLANNED" in statement.doc:
            self.pg.send_query_params(statement.encode(), values)
        else:
            self.pg.send_query_prepared(statement.name, values)

    def _checked(self, result: PGresult | None) -> PGresult:
        if result is None or result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("no result")
        return result

    def run(self, statement: Statement, values: list[bytes | None]) -> PGresult:
        """One statement in one round trip."""
        self._prepare(statement)
        self._send(statement, values)
        return self._only()

    def _only(self) -> PGresult:
        """The result of what was sent, read to its end."""
        self._flush()
        results = list(iter(self._result, None))
        return self._checked(results[0] if results else None)

    def _prepare(self, *statements: Statement) -> None:
        for statement in statements:
            if self.prepared is not None and statement.name not in self.prepared and "REPLANNED" not in statement.doc:
                self.pg.send_prepare(statement.name, statement.encode())
                self._only()
                self.prepared.add(statement.name)

    def batch(self, *commands: tuple[Statement, list[bytes | None]]) -> list[PGresult]:
        """Several statements in one round trip (libpq's pipeline mode); the first error ends them all."""
        self._prepare(*(statement for statement, _ in commands))
        self.pg.enter_pipeline_mode()
        for statement, values in commands:
            self._send(statement, values)
        self.pg.pipeline_sync()
        self._flush()
        results: list[PGresult] = []
        while (result := self._result()) is None or result.status != ExecStatus.PIPELINE_SYNC:
            if result is not None:
                results.append(result)
        self.pg.exit_pipeline_mode()
        return [self._checked(result) for result in results]

    def load(self, result: PGresult) -> list[dict[str, Any]]:
        """The rows of a result, as dictionaries."""
        names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        self.rows.set_pgresult(result)
        return self.rows.load_rows(0, result.ntuples, lambda row: dict(zip(names, row, strict=True)))


class Pool:
    """At most `size` sessions, each lent to one request; connecting holds no lock, so a dead host delays nobody else.

    :param make: makes a session by a deadline, in the seconds of `time.monotonic()`.
    :param patience: how long a request waits for a session, in seconds; a connection is made in half of that or not at all.
    :param name: what the metrics call it.
    """

    def __init__(self, make: Callable[[float], Session], size: int, patience: float, name: str) -> None:
        self._make, self.size, self.patience, self.name = make, size, patience, name
        self._in_use = counters.at("stuff_pool_in_use", pool=name)
        self._waits = counters.at("stuff_pool_wait_seconds", pool=name)
        counters.set("stuff_pool_size", size, pool=name)
        self._free = threading.BoundedSemaphore(size)
        self._idle: deque[Session] = deque()
        self._away = False  # as far as is known
        self._asking = threading.Lock()  # by whoever finds out whether it is back

    def take(self) -> Session:
        """A session that is fit for use.

        :raises errors.Problem: 503, none became free in time.
        :raises psycopg.OperationalError: the database is away.
        """
        if not self._free.acquire(blocking=False):
            began = time.perf_counter()
            free = self._free.acquire(timeout=self.patience)
            counters.observe(self._waits, time.perf_counter() - began)
            if not free:
                counters.count("stuff_pool_refused_total", pool=self.name)
                log.warning("no session free within %s s", self.patience)
                raise errors.Problem(503)
        counters.put(self._in_use, self.size - self._free._value)
        try:
            while self._idle:
                session = self._idle.pop()
                if session.alive():
                    return session
                session.close()
            return self._connected()
        except BaseException:
            self._freed()
            raise

    def _connected(self) -> Session:
        """A new session; while the database is away, one request at a time asks for it and the others are told at once."""
        asking = self._away
        if asking and not self._asking.acquire(blocking=False):
            raise errors.Problem(503)
        try:
            session = self._make(time.monotonic() + self.patience / 2)
            self._away = False
            counters.count("stuff_connections_total", pool=self.name, outcome="made")
        except psycopg.Error:
            self._away = True
            counters.count("stuff_connections_total", pool=self.name, outcome="failed")
            raise
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
        self._freed()

    def _freed(self) -> None:
        self._free.release()
        counters.put(self._in_use, self.size - self._free._value)

    def doubt(self) -> None:
        """Trust nothing of a server that fell silent: neither its idle sessions nor that it takes new ones."""
        self._away = True
        self.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
