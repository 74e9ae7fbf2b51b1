"""The database: the `db` reference, and the hook that commits or rolls back. Routes import `db` alone.

A request that reads (GET, HEAD) uses a connection on which the server refuses writes, in one round trip a statement, outside
of any transaction. A request that writes is one transaction: BEGIN goes with its first statement, COMMIT comes after a 2xx or
3xx answer.

A query may say more in the comment under its name: FRESH reads from the writing side even when reads go to standbys, APART is
a transaction of its own, kept whatever becomes of the request, REPLANNED is planned for the values at hand, not prepared.

Where reads go to standbys, how far one must have come is asked in the round trip of the read; of one that has not, or that is
away, the primary takes over.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import update_wrapper
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import aiosql
import anodb
import psycopg
from aiosql.adapters.pyformat import PyFormatAdapter
from aiosql.types import SQLOperationType
from FlaskSimpleAuth import Flask, Reference, Response, request
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq.abc import PGresult

from engine import errors
from engine.db import check, position
from engine.db.connect import connect
from engine.db.position import POSITION, REACHED, Behind, Bound
from engine.db.session import Command, JsonLoader, Pool, Session, Silence, Statement
from engine.fast.lean import here
from engine.metrics import counters

log = logging.getLogger("stuff.database")

READS = {"GET", "HEAD", "OPTIONS"}
AGAIN = 1.0  # seconds until standbys are asked for again, of which none could be had
Found = tuple[int, list[dict[str, Any]]]  # how many rows a statement touched, and those it returned
UNWATCHED = (
    "-c idle_in_transaction_session_timeout=0"  # in debug mode a request may stand at a breakpoint for as long as it likes
)
# what makes the database end the sessions, and undo the transactions, of a process of ours that is frozen or off the network
FORSAKEN = (
    "-c idle_in_transaction_session_timeout=10s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 -c tcp_user_timeout=20s"
)


class Adapter(PyFormatAdapter):
    """How aiosql prepares the text of a query for a DB, which runs it."""

    def process_sql(self, query_name: str, op_type: Any, sql: str) -> str:
        return Statement.make(query_name, sql)


aiosql.register_adapter("psycopg", Adapter)

BEGIN = Statement.make("_begin", "BEGIN")
BEGIN_READ = Statement.make("_begin_read", "BEGIN READ ONLY")
COMMIT = Statement.make("_commit", "COMMIT")
ROLLBACK = Statement.make("_rollback", "ROLLBACK")
# what the triggers and the server's own log may want to know of the request; local to the transaction
CONTEXT = Statement.make(
    "_context",
    "SELECT set_config('stuff.login', :login, TRUE), set_config('stuff.request', :request, TRUE),"
    " set_config('stuff.address', :address, TRUE), set_config('application_name', left('stuff ' || :request, 63), TRUE)",
)
TRACE = Statement.make("_trace", "SELECT set_config('application_name', left('stuff ' || :request, 63), TRUE)")
TIMEOUT = Statement.make("_timeout", "SELECT set_config('statement_timeout', :timeout, TRUE)")


KNOWN = Statement.make("_known", "SELECT to_regclass('schema_version') IS NOT NULL AS known")


class Expected:
    """A row that is taken for known, until it is read.

    :param statement: reads the row.
    :param locks: reads it and keeps it as it is until the end of the transaction: for what changes this row, and for the rest.
    :param fits: whether what was found is what was expected.
    """

    __slots__ = ("fits", "known", "locks", "statement", "values")

    def __init__(
        self,
        statement: Statement,
        locks: tuple[Statement, Statement],
        values: list[bytes | None],
        fits: Callable[[dict[str, Any] | None], bool],
    ) -> None:
        self.statement, self.locks, self.values, self.fits = statement, locks, values, fits
        self.known: tuple[bytes | None, ...] | None = None  # as the server sent it when it was last found to fit

    def judge(self, row: dict[str, Any] | None) -> None:
        """Compare the row, if there is one, with what was expected.

        :raises errors.Problem: it is not so, run the request again.
        """
        if not self.fits(row):
            raise errors.Problem(503, retry=True)

    def check(self, session: Session, result: PGresult) -> None:
        """The same of a row as the server sent it, which is not looked into if it is the one that fitted before."""
        found = tuple(map(result.get_value, repeat(0), range(result.nfields))) if result.ntuples else None
        if found is None or found != self.known:
            self.judge(session.load(self.statement, result)[0] if found else None)
            self.known = found


class Work:
    """What a thread does for the request at hand.

    :param writes: which side its queries go to.
    """

    __slots__ = ("after", "aside", "expected", "held", "ran", "read", "shares", "writes")

    def __init__(self, writes: bool) -> None:
        self.writes = writes
        self.after = 0  # the position that a standby must have reached, by the request's own word
        self.aside = False  # whether standbys are left alone: the one that was asked was behind, or none could be had
        self.held: dict[Pool, Session] = {}
        self.ran: list[tuple[str, float, float]] = []
        self.expected: Expected | None = None
        self.read = False  # whether the expected row was read, without a lock; what writes reads it once more, with one
        self.shares = False  # whether others may hold it as well


class Here(threading.local):
    """Each thread's own; without a request it writes."""

    def __init__(self) -> None:
        self.work = Work(True)


class DB(anodb.DB):  # type: ignore[misc]
    """AnoDB on pools of sessions: one object serves all threads.

    :param read: connection string of the reading side, None for the writing side's own database.
    :param size: sessions a pool may hold, per process.
    :param patience: seconds a request waits for a session.
    :param read_timeout: seconds a statement that reads may take.
    :param write_timeout: the same for one that writes.
    :param pooled: whether a transaction pooler (pgbouncer) stands between.
    :param slow: seconds above which a query is logged, None: never.
    :param plans: whether its plan is logged as well.
    :param stale: seconds after which a write must be seen by reads on standbys.
    :param age: seconds after which a session is replaced by a new one.
    :param debug: whether a transaction may wait without end, at a breakpoint.
    :param trace: whether what reads carries the request's id to the server's log, as what writes does.
    :param anodb: AnoDB's own arguments.
    """

    def __init__(
        self,
        read: str | None = None,
        size: int = 8,
        patience: float = 1.0,
        read_timeout: float = 5.0,
        write_timeout: float = 10.0,
        pooled: bool = False,
        slow: float | None = None,
        plans: bool = False,
        stale: float = 5.0,
        age: float = 600.0,
        trace: bool = False,
        debug: bool = False,
        **anodb: Any,
    ) -> None:
        super().__init__(**anodb)
        self._idle = UNWATCHED if debug else FORSAKEN
        self._pooled, self._trace, self._timeouts = pooled, trace, {"on": read_timeout, "off": write_timeout}
        self._begin, self._begin_read = self._opening(BEGIN, write_timeout), self._opening(BEGIN_READ, read_timeout)
        for query in self._available_queries:
            setattr(self, query, self._runner(query))
        self._slow, self._plans, self._planned = slow, plans, dict[str, float]()
        self._here = Here()
        self.context: Callable[[], tuple[str, str, str]] = lambda: ("", "", "")
        self.writer = Pool(self._maker(None, "off", patience), size, patience, "write", age)
        self.fresh = Pool(self._maker(None, "on", patience), size, patience, "read", age)
        self.reader, self.bound = self.fresh, None
        if read:
            self.reader = Pool(self._maker(read, "on", patience), size, patience, "replica", age)
            self.bound = Bound(Pool(self._maker(None, "on", patience), 1, patience, "position", age), stale)

    def _do_connect(self) -> None:
        """Nothing to connect yet: sessions are made when a request needs one."""
        self._conn = None

    def _opening(self, begin: Statement, timeout: float) -> list[Command]:
        """What begins a transaction: a pooler's session has no timeout of its own."""
        return [(begin, []), *([(TIMEOUT, [b"%d" % (1000 * timeout)])] if self._pooled else [])]

    def _maker(self, conninfo: str | None, read_only: str, patience: float) -> Callable[[float], Session]:
        given = conninfo_to_dict(conninfo or "".join(self._conn_args), **self._conn_kwargs) | {"client_encoding": "UTF8"}
        wait = self._timeouts[read_only]
        if not self._pooled:  # a pooler refuses start-up options
            options = f"-c default_transaction_read_only={read_only} -c statement_timeout={int(1000 * wait)} {self._idle}"
            given["options"] = f"{given.get('options') or os.environ.get('PGOPTIONS', '')} {options}".strip()
        target = given.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")
        if read_only == "on" and target == "read-write":
            given["target_session_attrs"] = "primary"  # the same server; what we read only could not be "read-write"

        def make(deadline: float) -> Session:
            connection = connect(deadline, **given)
            for name in ("json", "jsonb"):
                connection.adapters.register_loader(name, JsonLoader)
            return Session(connection, wait + 1, patience / 2, self._pooled)

        return make

    def follow(self, context: Callable[[], tuple[str, str, str]]) -> None:
        """Say where login, id and address of the request at hand come from: each transaction that writes carries them."""
        self.context = context

    # the work of one request, in its thread

    def open(self, writes: bool) -> None:
        """Begin the work of a request: which side its queries go to."""
        self._here.work = Work(writes)

    def after(self, position: int) -> None:
        """What was written up to a position, the reads of the request must see."""
        self._here.work.after = position

    def _runner(self, query: str) -> Callable[..., Any]:
        """What `db.query(name=value...)` calls: the statement that AnoDB loaded, run by us, complete when it returns."""
        loaded = getattr(self, query)
        statement, took = loaded.sql, counters.at("stuff_query_seconds", query=query)
        kinds = SQLOperationType.INSERT_UPDATE_DELETE, SQLOperationType.SELECT, SQLOperationType.SELECT_ONE
        changes, many, one = (loaded.operation == kind for kind in kinds)
        statement.says(loaded.__doc__ or "")

        def run(**named: Any) -> Any:
            began = time.perf_counter()
            try:
                touched, rows = self.execute(statement, named)
            finally:
                seconds = time.perf_counter() - began
                counters.observe(took, seconds)
                self._here.work.ran.append((query, began, seconds))
                if self._slow is not None and seconds > self._slow:
                    self._tell_slow(query, seconds, named)
            if changes:
                return touched
            if many:
                return rows
            if len(rows) > 1:
                raise RuntimeError(f"query {query} is for one row (^ or $ after its name), {len(rows)} came")
            first = rows[0] if rows else None
            return first if one or first is None else next(iter(first.values()))

        return update_wrapper(run, loaded)

    def ran(self) -> list[tuple[str, float, float]]:
        """The queries of the request so far: name, when it began (in the seconds of `time.perf_counter()`), duration."""
        return self._here.work.ran

    def _tell_slow(self, query: str, seconds: float, named: dict[str, Any]) -> None:
        """Log a query that took long, and, where configured, how it is executed, at most once a minute for each query."""
        backends = [session.pg.backend_pid for session in self._here.work.held.values()]
        log.warning("slow query %s: %.0f ms, backends %s", query, 1000 * seconds, backends)
        if self._plans and time.monotonic() - self._planned.get(query, -60.0) >= 60:
            self._planned[query] = time.monotonic()
            try:
                log.warning("plan of %s:\n%s", query, self.plan(query, named))
            except (errors.Problem, psycopg.Error) as error:
                log.warning("no plan of %s: %r", query, error)

    def plan(self, query: str, named: dict[str, Any]) -> str:
        """How a query is executed for some values, without executing it."""
        statement = getattr(self, query).sql
        explain = Statement.make("_explain", f"EXPLAIN {statement}")
        explain.parameters, explain.replanned = statement.parameters, True
        session = self.fresh.take()
        try:
            rows = session.load(explain, session.run(explain, explain.values(named)))
        finally:
            self.fresh.give(session)
        return "\n".join(row["QUERY PLAN"] for row in rows)

    def faults(self, path: Path) -> list[str]:
        """The queries of a file that the database refuses; none where it is away or has not our schema."""
        try:
            session = self.fresh.connected()
        except psycopg.Error:
            return []
        try:
            return check.faults(session.pg, path) if session.load(KNOWN, session.run(KNOWN, []))[0]["known"] else []
        finally:
            session.close()

    def expected(self, query: str, fits: Callable[[dict[str, Any] | None], bool], **named: Any) -> Expected:
        """A row that a query is expected to find.

        :param query: name of a query that is FRESH and gives one row or none; `_lock` and `_share` after it name the same with
            a lock that keeps off all others, and one that keeps off who would change the row.
        :param fits: whether what it found is what was expected.
        """
        statement: Statement = getattr(self, query).sql
        locks = getattr(self, query + "_lock").sql, getattr(self, query + "_share").sql
        return Expected(statement, locks, statement.values(named), fits)

    def expect(self, expected: Expected, read: bool = False) -> None:
        """Go on as if a row were known: it is read in the round trip of what the request reads next.

        What writes reads it in its own transaction, under a lock: whoever changes the row meanwhile waits for the end of that,
        or was first, and is seen. If the row is another one by then, the request runs again.

        :param read: whether it was read just now, so that only what writes reads it once more.
        """
        work = self._here.work
        work.expected, work.read, work.shares = (expected if work.writes or not read else None), read, False

    def share(self) -> None:
        """What the request writes leaves the expected row alone: others that do may hold it at once."""
        self._here.work.shares = True

    def confirm(self) -> None:
        """Read now what is expected and has not been read yet.

        :raises errors.Problem: it is not so, run the request again.
        """
        work = self._here.work
        if work.expected and not work.read:
            self._judge(work.expected, self.fresh, work.expected.statement)

    def _judge(self, expected: Expected, pool: Pool, statement: Statement) -> None:
        work = self._here.work
        work.expected = None
        rows = self._run(pool, statement, expected.values, work)[1]
        expected.judge(rows[0] if rows else None)
        if work.writes and pool is self.fresh:
            work.expected, work.read = expected, True

    def execute(self, statement: Statement, named: dict[str, Any]) -> Found:
        """Run a statement on the session that suits it: number of rows touched, and the rows."""
        values, work = statement.values(named), self._here.work
        if statement.apart:
            self.confirm()
            return self._apart(statement, values)
        if work.writes and not statement.fresh:
            if expected := work.expected:  # first: what is undone leaves gaps in sequences
                self._judge(expected, self.writer, expected.locks[work.shares])
            return self._run(self.writer, statement, values, work)
        if self.bound and not (work.aside or statement.fresh):
            self.confirm()
            if found := self._on_standby(statement, values, work, max(work.after, self.bound.position())):
                return found
            work.aside = True
        return self._run(self.fresh, statement, values, work)

    def _on_standby(self, statement: Statement, values: list[bytes | None], work: Work, position: int) -> Found | None:
        """What a standby answers; None where the primary must be asked: it is behind, or none can be had."""
        why, tries = "away", 2  # one may go away with what it is asked, and another be there
        while tries and time.monotonic() - self.reader.failed > AGAIN:
            try:
                return self._run(self.reader, statement, values, work, position)
            except Behind:
                why, tries = "behind", 0
            except errors.Problem as problem:  # 500: the schema may be behind; a full pool is no reason to fill the other
                if problem.status not in (500, 503) or (problem.__cause__ is None and not self.reader.away):
                    raise
                tries = tries - 1 if problem.retry else 0
        counters.count("stuff_reads_on_primary_total", why=why)
        return None

    def _run(
        self, pool: Pool, statement: Statement, values: list[bytes | None], work: Work, position: int | None = None
    ) -> Found:
        """Run a statement on a session of a pool.

        :param position: where a standby must have come, None where it is the primary that is asked.
        :raises Behind: it has not.
        """
        session = work.held.get(pool)
        if session is None:
            session = work.held[pool] = pool.take()
        expected = None if work.writes else work.expected
        if expected:
            work.expected = None
        before, after = self._around(pool, session, position)
        if expected:
            before.append((expected.statement, expected.values))
        try:
            if before:
                results = session.batch(*before, (statement, values), *after)
                first = session.checked(*results[: len(before)])
                if position is not None and first.get_value(0, 0) != b"t":
                    raise Behind(503)
                if expected:
                    expected.check(session, first)
                session.checked(*results[len(before) :])
                result = cast(PGresult, results[len(before)])
            else:
                result = session.run(statement, values)
        except psycopg.Error as error:
            if error.sqlstate == "25006" and pool is not self.writer:
                raise errors.from_database(error, reads=True) from error
            lost = session.lost() and not session.silent  # a silent server may yet do it, and would be silent again
            if lost or error.sqlstate is None or error.sqlstate in ("25006", "26000", "0A000"):
                self.release(broken=session)
            self._learn(pool, error)
            raise errors.from_database(error, lost) from error
        return result.command_tuples or 0, session.load(statement, result)

    def _learn(self, pool: Pool, error: psycopg.Error) -> None:
        """An error may tell of the server more than of the statement, and of the other sessions there."""
        counters.count("stuff_query_errors_total", state=error.sqlstate[:2] if error.sqlstate else "none")
        for one in {pool} if self.bound and pool is self.reader else {self.writer, self.fresh}:
            if isinstance(error, Silence):
                one.doubt()
            elif error.sqlstate in ("25006", "26000", "0A000"):  # it was demoted, or what was prepared is no more
                one.close()
            elif error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):  # others may be gone as well
                one.suspect()

    def _around(self, pool: Pool, session: Session, position: int | None) -> tuple[list[Command], list[Command]]:
        """What goes with a statement, before and after it: a transaction's opening, or all of it where a pooler needs that."""
        if pool is not self.writer:
            before = [*self._begin_read] if self._pooled else []
            if self._trace:
                before.append((TRACE, [self.context()[1].encode()]))
            if position is not None:
                before.append((REACHED, [b"%d" % position]))
            return before, [(COMMIT, [])] if self._pooled else []
        if not session.idle():
            return [], []
        login, request, address = self.context()
        return [*self._begin, (CONTEXT, [login.encode(), request.encode(), address.encode()])], []

    def _apart(self, statement: Statement, values: list[bytes | None]) -> Found:
        session = self.writer.take(look=True)
        try:
            result = session.run(statement, values)
            return result.command_tuples or 0, session.load(statement, result)
        except psycopg.Error as error:
            if error.sqlstate is None:
                session.close()
            self._learn(self.writer, error)
            raise errors.from_database(error) from error
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
        self._here.work.ran.append((how.lower(), began, time.perf_counter() - began))
        if how is COMMIT and result.command_status != b"COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("COMMIT was answered by ROLLBACK")
        if how is COMMIT and not session.replicated:
            raise psycopg.OperationalError("committed on one server alone")
        return end

    def commit(self) -> int | None:
        """End the transaction, if there is one; the server's word for it has come when this returns.

        :returns: where that is in the log of the server, when reads go to standbys.
        :raises errors.Problem: 503 when the connection went away meanwhile, or the server did not wait for its standbys: then
            nobody knows whether it is kept, and the message says so.
        """
        session = self._here.work.held.get(self.writer)
        if session is None or session.idle():
            return None
        try:
            return self._end(session, COMMIT)
        except psycopg.Error as error:
            problem = errors.from_database(error)
            self._learn(self.writer, error)
            unknown = error.sqlstate is None or session.lost()  # whatever the server said last
            if unknown:
                problem = errors.Problem(
                    503, "the write may or may not have been kept, read before repeating it", "outcome_unknown"
                )
            self.release(broken=session if unknown else None)
            raise problem from error

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        session = self._here.work.held.get(self.writer)
        if session is None or session.idle():
            return
        try:
            self._end(session, ROLLBACK)
        except psycopg.Error as error:
            log.warning("rollback: %s", error)  # the session is not idle: it will be closed, which undoes as well
            self.release()

    def release(self, broken: Session | None = None) -> None:
        """Give the request's sessions back to their pools."""
        held = self._here.work.held
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


db: Any = Reference()


def init_app(app: Flask) -> None:
    """Connect `db` to the configured databases, and each request to its transaction."""
    conf = app.config
    settings, stale = dict(conf["ANODB"]), conf.get("DATABASE_STALE", 5.0)
    settings["queries"] = str(Path(app.root_path, settings["queries"]))
    pool = DB(
        read=conf["DATABASE_READ"],
        size=conf["DATABASE_POOL"],
        patience=conf["DATABASE_PATIENCE"],
        read_timeout=conf["DATABASE_READ_TIMEOUT"],
        write_timeout=conf["DATABASE_WRITE_TIMEOUT"],
        pooled=conf["DATABASE_POOLED"],
        slow=conf.get("DATABASE_SLOW"),
        plans=conf.get("DATABASE_SLOW_PLAN", False),
        stale=stale,
        age=conf.get("DATABASE_MAX_AGE", 600.0),
        trace=conf.get("DATABASE_TRACE", False),
        debug=app.debug,
        **settings,
    )
    db.set(pool)
    direct = *pool._available_queries, "confirm", "expect", "share"
    vars(db).update({name: getattr(pool, name) for name in direct})  # past the proxy

    def db_open() -> None:
        pool.open(here().request.method not in READS)

    app.before_request_funcs[None].insert(0, db_open)  # first: what is refused early has asked for nothing

    if pool.bound:

        @app.before_request
        def db_after() -> Response | None:
            try:
                pool.after(position.asked(request))
            except errors.Problem as problem:
                return errors.from_problem(problem)
            return None

    @app.after_request  # runs once the answer is complete, and may still replace it: what the client hears is what was kept
    def db_end(response: Response) -> Response:
        try:
            if response._status_code < 400:
                if end := pool.commit():
                    position.tell(response, request, end, stale)
            else:
                pool.rollback()
        except errors.Problem as problem:
            return errors.from_problem(problem)
        return response

    @app.teardown_request
    def db_release(_: BaseException | None) -> None:
        pool.release()
