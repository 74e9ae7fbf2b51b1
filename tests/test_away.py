"""Servers that are gone, frozen, demoted or alone: what connections promise; the failover check shows it under load."""

import os
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from inside import warm

pytestmark = pytest.mark.internal


@pytest.fixture
def frozen() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def there() -> dict[str, str]:
    """Where the database of the tests is."""
    with psycopg.connect() as link:
        info = link.info
        return {"host": info.host, "port": str(info.port), "user": info.user, "dbname": info.dbname, "password": info.password}


def make(conn: str, **settings: Any) -> Any:
    from app import app
    from engine.db.database import DB

    return DB(**app.config["ANODB"] | {"queries": "queries.sql", "conn": conn} | settings)


def test_a_frozen_server_delays_a_connection_by_its_head_start(frozen: socket.socket) -> None:
    from engine.db.connect import connect

    fit = there()
    hosts = {"host": f"127.0.0.1,127.0.0.1,{fit['host']}", "port": f"{frozen.getsockname()[1]},1,{fit['port']}"}
    with connect(time.monotonic() + 5, **fit | hosts) as link:
        assert link.execute("SELECT 1").fetchall() == [(1,)]


def test_where_none_answers_the_deadline_holds(frozen: socket.socket) -> None:
    from engine.db.connect import connect

    with pytest.raises(psycopg.OperationalError, match="no server answers"):
        connect(time.monotonic() + 0.2, **there() | {"host": "127.0.0.1", "port": str(frozen.getsockname()[1])})


def test_where_all_refuse_the_last_one_is_quoted() -> None:
    from engine.db.connect import connect

    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(time.monotonic() + 60, **there() | {"host": "127.0.0.1,127.0.0.1", "port": "1,2"})


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_silent_server_is_asked_whether_it_is_there(family: int, address: str) -> None:
    from engine.db.connect import answers

    with socket.create_server((address, 0), family=family) as server:
        link: Any = SimpleNamespace(hostaddr=address.encode(), host=b"", port=str(server.getsockname()[1]).encode())
        assert not answers(link, 0.1)
    assert not answers(link, 0.1)
    with psycopg.connect() as real:
        assert answers(real.pgconn, 5)


def test_while_the_database_is_away_one_request_at_a_time_asks_for_it() -> None:
    from engine.problem import Problem

    db = make("", timeout=0.2)
    db.fresh.mark_down()
    db.fresh._asking.acquire()
    with pytest.raises(Problem):
        db.fresh.take()
    db.fresh._asking.release()
    db.fresh.give(db.fresh.take())
    assert not db.fresh._away
    db.close()


def test_who_waits_for_one_that_asks_hears_that_the_database_is_back() -> None:
    db = make("")
    db.fresh.mark_down()
    released: list[None] = []

    def acquire(blocking: bool = True, timeout: float = -1) -> bool:
        db.fresh._away = not blocking  # who asks is answered while we wait
        return blocking

    db.fresh._asking = SimpleNamespace(acquire=acquire, release=lambda: released.append(None))
    db.fresh.give(db.fresh.take())
    assert len(released) == 1
    db.close()


@pytest.mark.parametrize("writes", [True, False])
def test_a_server_that_falls_silent_is_left_at_once(monkeypatch: pytest.MonkeyPatch, sql: Any, writes: bool) -> None:
    from engine.db import watch
    from engine.problem import Problem

    db = make("", timeout=0.2)
    db.open(writes)
    spare, other = db.writer.take(), db.fresh.take()
    db.writer.give(spare)
    db.fresh.give(other)
    sql("BEGIN")
    sql("LOCK TABLE Stuff")
    try:
        monkeypatch.setattr(watch, "answers", lambda *_: False)
        with pytest.raises(Problem) as problem:
            db.add_stuff(stuff="Lamp") if writes else db.get_stuff_sid(sid=1)
    finally:
        sql("ROLLBACK")
    assert (problem.value.status, problem.value.retry) == (503, False)
    assert not db.fresh._idle
    assert not db.writer._idle
    db.release()
    db.open(True)
    assert db.add_stuff(stuff="Lamp") >= 3
    db.rollback()
    db.release()
    db.close()


def test_a_server_at_work_is_waited_for() -> None:
    from engine.db.statement import Statement

    db = make("")
    session = db.fresh.take()
    session.patience = 0.04  # a fifth of what follows
    statement = Statement.make("_slow", "SELECT 1 AS one FROM pg_sleep(0.2)")
    assert session.load(statement, session.run(statement, [])) == [{"one": 1}]
    db.fresh.give(session)
    db.close()


def test_a_demoted_server_is_left_at_once(client: Any) -> None:
    from database import db
    from engine.db.statement import Statement

    sessions = warm(db.writer, Statement.make("_demote", "SET default_transaction_read_only = on"))
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    assert not set(sessions) & set(db.writer._idle)


def test_a_commit_that_no_standby_has_is_no_success(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.db.session import Session

    run = Session.run

    def alone(self: Any, statement: Any, values: Any) -> Any:
        if statement == "COMMIT":
            self._notice(SimpleNamespace(source_function="exec_stmt_raise"))
            self._notice(SimpleNamespace(source_function="SyncRepWaitForLSN"))
        return run(self, statement, values)

    monkeypatch.setattr(Session, "run", alone)
    response = client.post("/stuff", 503, json={"stuff": "Lamp"})
    assert response.json["code"] == "outcome_unknown"
    assert response.headers["Retry-After"]
    monkeypatch.undo()
    client.post("/stuff", 201, json={"stuff": "Torch"})


def test_a_side_that_reads_finds_the_server_that_writes() -> None:
    fit = there()
    db = make(psycopg.conninfo.make_conninfo(**fit, target_session_attrs="read-write", options="-c work_mem=1234kB"))
    session = db.fresh.take()
    for name, value in {"transaction_read_only": "on", "work_mem": "1234kB", "statement_timeout": "5s"}.items():
        assert session.connection.execute(f"SHOW {name}").fetchall() == [(value,)]
    db.fresh.give(session)
    session = db.writer.take()
    db.writer.give(session)
    db.close()


def test_options_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=2345kB")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    db = make(os.environ.get("DATABASE_URL", ""))
    session = db.fresh.take()
    assert session.connection.execute("SHOW work_mem").fetchall() == [("2345kB",)]
    db.fresh.give(session)
    db.close()


def test_where_any_server_will_do_the_environment_does_not_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.db.connect import connect

    fit = there()
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")  # which this one is not
    with pytest.raises(psycopg.OperationalError):
        connect(time.monotonic() + 5, **fit)
    with connect(time.monotonic() + 5, **fit, target_session_attrs="prefer-standby") as found:
        assert found.execute("SELECT 1").fetchall() == [(1,)]


def test_a_session_is_replaced_when_it_has_served_long_enough() -> None:
    db = make("", age=1000.0)
    session = db.fresh.take()
    assert 740 < session.until - time.monotonic() <= 1000
    db.fresh.give(session)
    assert db.fresh.take() is session
    session.until = time.monotonic()
    db.fresh.give(session)
    another = db.fresh.take()
    assert another is not session
    assert session.connection.closed
    db.fresh.give(another)
    db.close()
