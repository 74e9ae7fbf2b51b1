"""AnoDB on pools of sessions: loads the named queries and runs them in the unit of work of the current request."""

import logging
import os
import time
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any

import aiosql
import anodb
import psycopg
from aiosql.adapters.pyformat import PyFormatAdapter
from aiosql.types import SQLOperationType
from psycopg.conninfo import conninfo_to_dict

from engine.db import check
from engine.db.assumption import Assumption
from engine.db.connect import connect
from engine.db.pool import Pool
from engine.db.session import Session
from engine.db.standby import Bound
from engine.db.statement import BEGIN, BEGIN_READ, TIMEOUT, Command, JsonLoader, Statement
from engine.db.unit import Work
from engine.metrics import counters
from engine.problem import Problem

log = logging.getLogger("engine.database")

UNWATCHED = (
    "-c idle_in_transaction_session_timeout=0"  # in debug mode a request may stand at a breakpoint for as long as it likes
)
KNOWN = Statement.make("_known", "SELECT to_regclass('schema_version') IS NOT NULL AS known")
# what makes the database end the sessions, and undo the transactions, of a process of ours that is frozen or off the network
FORSAKEN = (
    "-c idle_in_transaction_session_timeout=10s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 -c tcp_user_timeout=20s"
)


class Adapter(PyFormatAdapter):
    """Prepares the text of a query for a DB, which runs it itself."""

    def process_sql(self, query_name: str, op_type: Any, sql: str) -> str:
        return Statement.make(query_name, sql)


aiosql.register_adapter("psycopg", Adapter)


class DB(Work, anodb.DB):  # type: ignore[misc]
    """One object serves all threads.

    :param conn: connection string of the writing side; None leaves it to libpq's PG* environment.
    :param queries: files of named queries.
    :param db: the kind of database, as AnoDB names it.
    :param read: connection string of the reading side, None for the writing side's own database.
    :param size: sessions a pool may hold, per process.
    :param timeout: seconds a request waits for a session.
    :param read_timeout: seconds a statement that reads may take.
    :param write_timeout: seconds a statement that writes may take.
    :param pooler: whether a transaction pooler (pgbouncer) stands between.
    :param slow: seconds above which a query is logged, None: never.
    :param plans: whether its plan is logged as well.
    :param stale: seconds after which a write must be seen by reads on standbys.
    :param age: seconds after which a session is replaced by a new one.
    :param debug: whether a transaction may wait without end, at a breakpoint.
    :param trace: whether what reads carries the request's id to the server's log, as what writes does.
    :param options: libpq's own parameters.
    """

    session_class: type[Session] = Session

    def __init__(
        self,
        conn: str | None,
        queries: str | list[str],
        db: str = "postgres",
        read: str | None = None,
        size: int = 8,
        timeout: float = 1.0,
        read_timeout: float = 5.0,
        write_timeout: float = 10.0,
        pooler: bool = False,
        slow: float | None = None,
        plans: bool = False,
        stale: float = 5.0,
        age: float = 600.0,
        trace: bool = False,
        debug: bool = False,
        **options: Any,
    ) -> None:
        self._idle = UNWATCHED if debug else FORSAKEN
        self.queries: dict[str, Statement] = {}
        self._slow, self._plans, self._planned = slow, plans, dict[str, float]()
        self._pooler, self._timeouts = pooler, {"on": read_timeout, "off": write_timeout}
        self._primary = conninfo_to_dict(conn or "", **options)
        anodb.DB.__init__(self, db, conn, queries)

        def pool(name: str, read_only: str, conninfo: dict[str, Any], size: int = size) -> Pool:
            return Pool(self._maker(conninfo, read_only, timeout), size, timeout, name, age)

        writer, fresh = pool("write", "off", self._primary), pool("read", "on", self._primary)
        reader = pool("replica", "on", conninfo_to_dict(read, **options)) if read else fresh
        bound = Bound(pool("position", "on", self._primary, 1), stale) if read else None
        opening = self._opening(BEGIN, write_timeout), self._opening(BEGIN_READ, read_timeout)
        Work.__init__(self, writer, fresh, reader, bound, *opening, pooler, trace)

    def _do_connect(self) -> None:
        """Nothing to connect yet: sessions are made when a request needs one."""

    def add_queries_from_path(self, fn: str) -> None:
        """Load the named queries of a file.

        :raises ValueError: two have one name, or one hides an attribute.
        """
        loaded = aiosql.from_path(fn, "psycopg", kwargs_only=True, mandatory_parameters=True)
        for name in loaded.available_queries:
            if name.endswith("_cursor"):
                continue
            if hasattr(self, name):
                raise ValueError(f"{fn}: {name} is taken")
            setattr(self, name, self._runner(getattr(loaded, name)))

    def _opening(self, begin: Statement, timeout: float) -> list[Command]:
        """The commands that begin a transaction: a pooler's session has no timeout of its own."""
        return [(begin, []), *([(TIMEOUT, [b"%d" % (1000 * timeout)])] if self._pooler else [])]

    def _maker(self, conninfo: dict[str, Any], read_only: str, timeout: float) -> Callable[[float], Session]:
        given = conninfo | {"client_encoding": "UTF8"}
        wait = self._timeouts[read_only]
        if not self._pooler:  # a pooler refuses start-up options
            options = f"-c default_transaction_read_only={read_only} -c statement_timeout={int(1000 * wait)} {self._idle}"
            given["options"] = f"{given.get('options') or os.environ.get('PGOPTIONS', '')} {options}".strip()
        target = given.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")
        if read_only == "on" and target == "read-write":
            given["target_session_attrs"] = "primary"  # the same server; what we read only could not be "read-write"

        def make(deadline: float) -> Session:
            connection = connect(deadline, **given)
            for name in ("json", "jsonb"):
                connection.adapters.register_loader(name, JsonLoader)
            return self.session_class(connection, wait + 1, timeout / 2, self._pooler)

        return make

    def _runner(self, loaded: Any) -> Callable[..., Any]:
        """Run a query that aiosql loaded, `db.query(name=value...)`; complete when it returns."""
        query, statement = loaded.__name__, loaded.sql
        took = counters.at("stuff_query_seconds", query=query)
        kinds = SQLOperationType.INSERT_UPDATE_DELETE, SQLOperationType.SELECT, SQLOperationType.SELECT_ONE
        changes, many, one = (loaded.operation == kind for kind in kinds)
        statement.read_tags(loaded.__doc__ or "")
        self.queries[query] = statement

        def run(**named: Any) -> Any:
            began = time.perf_counter()
            try:
                touched, rows = self.execute(statement, named)
            finally:
                seconds = time.perf_counter() - began
                counters.observe(took, seconds)
                self._current.unit.ran.append((query, began, seconds))
                if self._slow is not None and seconds > self._slow:
                    self._log_slow(query, seconds, named)
            if changes:
                return touched
            if many:
                return rows
            if len(rows) > 1:
                raise RuntimeError(f"query {query} is for one row (^ or $ after its name), {len(rows)} came")
            first = rows[0] if rows else None
            return first if one or first is None else next(iter(first.values()))

        return update_wrapper(run, loaded)

    def _log_slow(self, query: str, seconds: float, named: dict[str, Any]) -> None:
        """Log a query that took long, and, where configured, how it is executed, at most once a minute for each query."""
        backends = [session.pg.backend_pid for session in self._current.unit.held.values()]
        log.warning("slow query %s: %.0f ms, backends %s", query, 1000 * seconds, backends)
        if self._plans and time.monotonic() - self._planned.get(query, -60.0) >= 60:
            self._planned[query] = time.monotonic()
            try:
                log.warning("plan of %s:\n%s", query, self.plan(query, named))
            except (Problem, psycopg.Error) as error:
                log.warning("no plan of %s: %r", query, error)

    def plan(self, query: str, named: dict[str, Any]) -> str:
        """Explain how a query is executed for some values, without executing it."""
        statement = self.queries[query]
        explain = Statement.make("_explain", f"EXPLAIN {statement}")
        explain.parameters, explain.custom_plan = statement.parameters, True
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

    def assumption(self, query: str, fits: Callable[[dict[str, Any] | None], bool], **named: Any) -> Assumption:
        """Assume the row of a query.

        :param query: name of a query that is @primary and gives one row or none; `_lock` and `_share` after it name the same
            with a lock that keeps off all others, and one that keeps off who would change the row.
        :param fits: whether the row found is the one that was assumed.
        """
        statement, *locks = (self.queries[query + how] for how in ("", "_lock", "_share"))
        return Assumption(statement, (locks[0], locks[1]), statement.values(named), fits)
