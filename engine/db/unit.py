"""The unit of work of a request: which session each statement goes to, and the transaction around those that write.

A request that reads uses a session on which the server refuses writes, in one round trip a statement, outside of any
transaction. A request that writes is one transaction: BEGIN goes with its first statement, COMMIT comes at the end.

Where reads go to standbys, how far one must have come is asked in the round trip of the read; of one that has not, or that is
away, the primary takes over.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import psycopg
from psycopg.pq.abc import PGresult

from engine.db.assumption import Assumption
from engine.db.errors import from_database
from engine.db.pool import Pool
from engine.db.session import Session, Silence
from engine.db.standby import POSITION, REACHED, Behind, Bound
from engine.db.statement import COMMIT, CONTEXT, ROLLBACK, TRACE, Command, Statement
from engine.metrics import counters
from engine.problem import Problem

log = logging.getLogger("engine.database")

AGAIN = 1.0  # seconds until standbys are asked for again, of which none could be had
Found = tuple[int, list[dict[str, Any]]]  # how many rows a statement touched, and those it returned


class Unit:
    """The unit of work of the current request.

    :param writes: whether its queries go to the writing side.
    """

    __slots__ = ("after", "aside", "assumption", "held", "ran", "read", "shares", "writes")

    def __init__(self, writes: bool) -> None:
        self.writes = writes
        self.after = 0  # the WAL position that a standby must have reached, by the request's own word
        self.aside = False  # whether standbys are left alone: the one that was asked was behind, or none could be had
        self.held: dict[Pool, Session] = {}
        self.ran: list[tuple[str, float, float]] = []
        self.assumption: Assumption | None = None
        self.read = False  # whether the assumed row was read, without a lock; what writes reads it once more, with one
        self.shares = False  # whether others may hold it as well


class Current(threading.local):
    """Each thread's own; without a request it writes."""

    def __init__(self) -> None:
        self.unit = Unit(True)


class Work:
    """Units of work on three pools.

    :param writer: sessions to the primary.
    :param fresh: sessions to the primary on which it refuses writes.
    :param reader: those of what only reads, on standbys where there are some.
    :param bound: how old a read on standbys may be; None where there are none.
    :param begin: what opens a transaction that writes.
    :param begin_read: what opens one that reads, where a pooler needs it.
    :param pooler: whether a transaction pooler stands between.
    :param trace: whether reads carry the request's id to the server's log.
    """

    def __init__(
        self,
        writer: Pool,
        fresh: Pool,
        reader: Pool,
        bound: Bound | None,
        begin: list[Command],
        begin_read: list[Command],
        pooler: bool,
        trace: bool,
    ) -> None:
        self.writer, self.fresh, self.reader, self.bound = writer, fresh, reader, bound
        self._begin, self._begin_read, self._pooler, self._trace = begin, begin_read, pooler, trace
        self._current = Current()
        self.context: Callable[[], tuple[str, str, str]] = lambda: ("", "", "")

    def follow(self, context: Callable[[], tuple[str, str, str]]) -> None:
        """Say where login, id and address of the current request come from: each transaction that writes carries them."""
        self.context = context

    def open(self, writes: bool) -> None:
        """Begin the unit of work of a request.

        :param writes: whether its queries go to the writing side.
        """
        self._current.unit = Unit(writes)

    def after(self, position: int) -> None:
        """Require of the request's reads that they see what was written up to a WAL position."""
        self._current.unit.after = position

    def ran(self) -> list[tuple[str, float, float]]:
        """The queries of the request so far: name, when it began (in the seconds of `time.perf_counter()`), duration."""
        return self._current.unit.ran

    def assume(self, assumption: Assumption, read: bool = False) -> None:
        """Go on as if a row were known: it is read in the round trip of what the request reads next.

        What writes reads it in its own transaction, under a lock: whoever changes the row meanwhile waits for the end of that,
        or was first, and is seen. If the row is another one by then, the request runs again.

        :param read: whether it was read just now, so that only what writes reads it once more.
        """
        unit = self._current.unit
        unit.assumption, unit.read, unit.shares = (assumption if unit.writes or not read else None), read, False

    def share(self) -> None:
        """Let others hold the assumed row at once: what the request writes leaves it alone."""
        self._current.unit.shares = True

    def verify(self) -> None:
        """Read now what is assumed and has not been read yet.

        :raises Problem: it is not so, run the request again.
        """
        unit = self._current.unit
        if unit.assumption and not unit.read:
            self._judge(unit.assumption, self.fresh, unit.assumption.statement)

    def _judge(self, assumption: Assumption, pool: Pool, statement: Statement) -> None:
        unit = self._current.unit
        unit.assumption = None
        rows = self._run(pool, statement, assumption.values, unit)[1]
        assumption.judge(rows[0] if rows else None)
        if unit.writes and pool is self.fresh:
            unit.assumption, unit.read = assumption, True

    def execute(self, statement: Statement, named: dict[str, Any]) -> Found:
        """Run a statement on the session that suits it: number of rows touched, and the rows."""
        values, unit = statement.values(named), self._current.unit
        if statement.autonomous:
            self.verify()
            return self._autonomous(statement, values)
        if unit.writes and not statement.primary:
            if assumption := unit.assumption:  # first: what is undone leaves gaps in sequences
                self._judge(assumption, self.writer, assumption.locks[unit.shares])
            return self._run(self.writer, statement, values, unit)
        if self.bound and not (unit.aside or statement.primary):
            self.verify()
            if found := self._on_standby(statement, values, unit, max(unit.after, self.bound.position())):
                return found
            unit.aside = True
        return self._run(self.fresh, statement, values, unit)

    def _on_standby(self, statement: Statement, values: list[bytes | None], unit: Unit, position: int) -> Found | None:
        """What a standby answers; None where the primary must be asked: it is behind, or none can be had."""
        why, tries = "away", 2  # one may go away with what it is asked, and another be there
        while tries and time.monotonic() - self.reader.failed > AGAIN:
            try:
                return self._run(self.reader, statement, values, unit, position)
            except Behind:
                why, tries = "behind", 0
            except Problem as problem:  # 500: the schema may be behind; a full pool is no reason to fill the other
                if problem.status not in (500, 503) or (problem.__cause__ is None and not self.reader.away):
                    raise
                tries = tries - 1 if problem.retry else 0
        counters.count("stuff_reads_on_primary_total", why=why)
        return None

    def _run(
        self, pool: Pool, statement: Statement, values: list[bytes | None], unit: Unit, position: int | None = None
    ) -> Found:
        """Run a statement on a session of a pool.

        :param position: where a standby must have come, None where it is the primary that is asked.
        :raises Behind: it has not.
        """
        session = unit.held.get(pool)
        if session is None:
            session = unit.held[pool] = pool.take()
        assumption = None if unit.writes else unit.assumption
        if assumption:
            unit.assumption = None
        before, after = self._around(pool, session, position)
        if assumption:
            before.append((assumption.statement, assumption.values))
        try:
            if before:
                results = session.batch(*before, (statement, values), *after)
                first = session.checked(*results[: len(before)])
                if position is not None and first.get_value(0, 0) != b"t":
                    raise Behind(503)
                if assumption:
                    assumption.check(session, first)
                session.checked(*results[len(before) :])
                result = cast(PGresult, results[len(before)])
            else:
                result = session.run(statement, values)
        except psycopg.Error as error:
            if error.sqlstate == "25006" and pool is not self.writer:
                raise from_database(error, reads=True) from error
            lost = session.lost() and not session.silent  # a silent server may yet do it, and would be silent again
            if lost or error.sqlstate is None or error.sqlstate in ("25006", "26000", "0A000"):
                self.release(broken=session)
            self._learn(pool, error)
            raise from_database(error, lost) from error
        return result.command_tuples or 0, session.load(statement, result)

    def _learn(self, pool: Pool, error: psycopg.Error) -> None:
        """An error may tell of the server more than of the statement, and of the other sessions there."""
        counters.count("stuff_query_errors_total", state=error.sqlstate[:2] if error.sqlstate else "none")
        for one in {pool} if self.bound and pool is self.reader else {self.writer, self.fresh}:
            if isinstance(error, Silence):
                one.mark_down()
            elif error.sqlstate in ("25006", "26000", "0A000"):  # it was demoted, or what was prepared is no more
                one.close()
            elif error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):  # others may be gone as well
                one.recheck()

    def _around(self, pool: Pool, session: Session, position: int | None) -> tuple[list[Command], list[Command]]:
        """What goes with a statement, before and after it: a transaction's opening, or all of it where a pooler needs that."""
        if pool is not self.writer:
            before = [*self._begin_read] if self._pooler else []
            if self._trace:
                before.append((TRACE, [self.context()[1].encode()]))
            if position is not None:
                before.append((REACHED, [b"%d" % position]))
            return before, [(COMMIT, [])] if self._pooler else []
        if not session.idle():
            return [], []
        login, request, address = self.context()
        return [*self._begin, (CONTEXT, [login.encode(), request.encode(), address.encode()])], []

    def _autonomous(self, statement: Statement, values: list[bytes | None]) -> Found:
        session = self.writer.take(look=True)
        try:
            result = session.run(statement, values)
            return result.command_tuples or 0, session.load(statement, result)
        except psycopg.Error as error:
            if error.sqlstate is None:
                session.close()
            self._learn(self.writer, error)
            raise from_database(error) from error
        finally:
            self.writer.give(session)

    def _end(self, session: Session, how: Statement) -> int | None:
        end, began = None, time.perf_counter()
        if how is COMMIT and self.bound:
            results = session.batch((COMMIT, []), (POSITION, []))
            end = int(session.checked(*results).get_value(0, 0) or 0)
            result = cast(PGresult, results[0])
        else:
            result = session.run(how, [])
        self._current.unit.ran.append((how.lower(), began, time.perf_counter() - began))
        if how is COMMIT and result.command_status != b"COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("COMMIT was answered by ROLLBACK")
        if how is COMMIT and not session.replicated:
            raise psycopg.OperationalError("committed on one server alone")
        return end

    def commit(self) -> int | None:
        """End the transaction, if there is one; the server's word for it has come when this returns.

        :returns: where that is in the log of the server, when reads go to standbys.
        :raises Problem: 503 when the connection went away meanwhile, or the server did not wait for its standbys: then
            nobody knows whether it is kept, and the message says so.
        """
        session = self._current.unit.held.get(self.writer)
        if session is None or session.idle():
            return None
        try:
            return self._end(session, COMMIT)
        except psycopg.Error as error:
            problem = from_database(error)
            self._learn(self.writer, error)
            unknown = error.sqlstate is None or session.lost()  # whatever the server said last
            if unknown:
                problem = Problem(503, "the write may or may not have been kept, read before repeating it", "outcome_unknown")
            self.release(broken=session if unknown else None)
            raise problem from error

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        session = self._current.unit.held.get(self.writer)
        if session is None or session.idle():
            return
        try:
            self._end(session, ROLLBACK)
        except psycopg.Error as error:
            log.warning("rollback: %s", error)  # the session is not idle: it will be closed, which undoes as well
            self.release()

    def release(self, broken: Session | None = None) -> None:
        """Give the request's sessions back to their pools."""
        held = self._current.unit.held
        while held:
            pool, session = held.popitem()
            if broken and session is broken:
                broken.close()
            pool.give(session)

    def close(self) -> None:
        """Close the idle sessions of all pools, and what goes on without a request."""
        for pool in {self.writer, self.fresh, self.reader}:
            pool.close()
        if self.bound:
            self.bound.close()
