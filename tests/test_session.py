"""Under the routes: each kind of query, statements apart from the transaction, and servers that fall silent."""

import gc
import itertools
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from inside import warm

pytestmark = pytest.mark.internal

QUERIES = """
-- name: all_stuff()
SELECT sid, stuff FROM Stuff ORDER BY sid;

-- name: rename(sid, stuff)!
UPDATE Stuff SET stuff = :stuff WHERE sid = :sid;

-- name: note(stuff)!
-- Kept whatever becomes of the request: @autonomous.
INSERT INTO Stuff(stuff) VALUES (:stuff);

-- name: nap(seconds)$
-- @autonomous
SELECT pg_sleep(:seconds::FLOAT);

-- name: size(text)$
SELECT length(:text);
"""
TWO = "".join(f"7f00-7f01 r-xp 00000000 00:00 0    /lib/libpq{name}\n" for name in (".so.5", "-x.so.5"))
BIG = "x" * 16_000_000  # more than the buffers of a socket hold


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Any]:
    """A DB with these queries, in a request that writes."""
    from app import app
    from engine.db.database import DB

    (tmp_path / "queries.sql").write_text(QUERIES)
    one = DB(**app.config["ANODB"] | {"queries": str(tmp_path / "queries.sql")})
    one.open(True)
    yield one
    one.rollback()
    one.release()
    one.close()


def test_a_query_gives_all_its_rows_or_how_many_it_touched(one: Any) -> None:
    assert one.all_stuff() == [{"sid": 1, "stuff": "Chair"}, {"sid": 2, "stuff": "Desk"}]
    assert one.rename(sid=1, stuff="Stool") == 1
    assert one.rename(sid=9, stuff="Stool") == 0
    assert one.all_stuff()[0] == {"sid": 1, "stuff": "Stool"}


def test_what_is_apart_is_kept_though_the_request_is_undone(one: Any, sql: Any) -> None:
    one.rename(sid=1, stuff="Stool")
    assert one.note(stuff="noted") == 1
    one.rollback()
    assert sql("SELECT stuff FROM Stuff ORDER BY sid") == [("Chair",), ("Desk",), ("noted",)]


def test_what_is_apart_and_fails_leaves_the_request_alone(one: Any, sql: Any) -> None:
    from engine.problem import Problem

    one.rename(sid=1, stuff="Stool")
    with pytest.raises(Problem) as refused:
        one.note(stuff="Desk")
    assert (refused.value.status, refused.value.code) == (409, "duplicate")
    one.commit()
    assert sql("SELECT stuff FROM Stuff ORDER BY sid") == [("Stool",), ("Desk",)]


def test_what_is_apart_and_gets_no_answer_is_503(one: Any) -> None:
    from engine.problem import Problem

    assert one.nap(seconds=0) == ""
    session = one.writer.take()
    session.wait = 0.05
    one.writer.give(session)
    with pytest.raises(Problem) as refused:
        one.nap(seconds=1)
    assert (refused.value.status, refused.value.retry) == (503, False)
    assert session.connection.closed
    assert one.nap(seconds=0) == ""


def test_an_error_that_was_caught_cannot_be_committed(one: Any, sql: Any) -> None:
    from engine.problem import Problem

    one.rename(sid=1, stuff="Stool")
    with pytest.raises(Problem):
        one.rename(sid=1, stuff="Desk")
    with pytest.raises(Problem) as refused:
        one.commit()
    assert refused.value.status == 500
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [("Chair",)]


def test_a_rollback_on_a_lost_connection_is_none_the_worse(one: Any, sql: Any) -> None:
    one.rename(sid=1, stuff="Stool")
    (session,) = one._current.unit.held.values()
    sql("SELECT pg_terminate_backend(%s, 1000)", session.pg.backend_pid)
    one.rollback()
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [("Chair",)]
    assert one.rename(sid=1, stuff="Stool") == 1


@pytest.mark.parametrize(
    ("then", "code", "retry"),
    [
        (lambda one: one.commit(), "outcome_unknown", False),
        (lambda one: one.rename(sid=2, stuff="Bench"), "unavailable", True),
    ],
)
def test_the_server_ends_a_transaction_that_is_left_alone(
    one: Any, sql: Any, then: Callable[[Any], Any], code: str, retry: bool
) -> None:
    from engine.db.statement import Statement
    from engine.problem import Problem

    one.rename(sid=1, stuff="Stool")
    (session,) = one._current.unit.held.values()
    name = "idle_in_transaction_session_timeout"
    statement = Statement.make("_told", f"SHOW {name}")
    assert session.load(statement, session.run(statement, [])) == [{name: "10s"}]
    session.run(Statement.make("_soon", f"SET LOCAL {name} = '50ms'"), [])
    deadline = time.monotonic() + 10
    while sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", session.pg.backend_pid):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.01)
    with pytest.raises(Problem) as problem:
        then(one)
    assert (problem.value.status, problem.value.code, problem.value.retry) == (503, code, retry)
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [("Chair",)]
    one.rollback()
    one.release()
    assert one.rename(sid=1, stuff="Stool") == 1


def test_a_parameter_may_be_larger_than_the_buffers(one: Any) -> None:
    assert one.size(text=BIG) == len(BIG)


def test_a_server_that_stops_reading_is_given_up(one: Any) -> None:
    session = one.writer.take()
    nap, size = one.nap.sql, one.size.sql
    session.batch((nap, [b"0"]), (size, [b""]))
    session.wait = 0.05
    with pytest.raises(psycopg.OperationalError, match="deadline"):
        session.checked(session.batch((nap, [b"1"]), (size, [BIG.encode()]))[-1])
    one.writer.give(session)
    assert session.connection.closed


def test_a_connection_that_ends_in_the_middle_of_a_batch_is_lost(one: Any) -> None:
    from engine.db.statement import Statement

    session = one.writer.take()
    end = Statement.make("_end_me", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.OperationalError):
        [session.checked(each) for each in session.batch((end, []), (one.size.sql, [b"x"]))]
    assert session.lost()
    one.writer.give(session)
    assert one.rename(sid=1, stuff="Stool") == 1


def test_a_batch_on_a_closed_connection_cannot_be_sent(one: Any) -> None:
    from engine.fast.libpq import sender

    session = one.writer.take()
    session.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        sender(Path("/proc/self/maps"))(session.pg)
    one.writer.give(session)


@pytest.mark.parametrize("maps", ["", "7f00-7f01 r-xp 00000000 00:00 0    /lib/libpqueue.so\n", TWO, None])
def test_where_libpq_is_not_found_psycopg_sends_a_batch(
    one: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maps: str | None
) -> None:
    from engine.db.session import Session
    from engine.fast.libpq import FastSession, sender

    if maps is not None:
        (tmp_path / "maps").write_text(maps)
    send = sender(tmp_path / "maps")
    monkeypatch.setattr(FastSession, "sync", (lambda session: send(session.pg)) if maps else Session.sync)
    one.rename(sid=1, stuff="Stool")
    one.rollback()
    assert {"sid": 1, "stuff": "Chair"} in one.all_stuff()


def test_the_watch_cuts_no_wait_but_the_one_that_it_saw(one: Any) -> None:
    from engine.db.watch import Watch

    watch, session, other = Watch(), one.writer.take(), one.writer.take()
    watch._sessions |= {session, other}
    session.since = other.since = time.monotonic() - 1
    for _ in range(2):
        watch.look()  # the server is there
    session.since = other.since = 0.0
    one.writer.give(other)
    session.cut(time.monotonic())  # of a wait that is over
    assert session.alive()
    one.writer.give(session)
    session.close()
    session.since = time.monotonic() - 1  # it was closed while being looked at
    watch.look()
    session.since = time.monotonic() - 100
    watch.look()
    assert not session.alive()


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("read", [None, "application_name=replica"])
def test_what_is_expected_is_read_with_the_next_statement(sql: Any, writes: bool, pooled: bool, read: str | None) -> None:
    from app import app
    from engine.db.database import DB
    from engine.problem import Problem

    seen, number = [], itertools.count()

    def fits(row: Any) -> bool:
        seen.append(row)
        return row is not None

    other: Any = DB(read=read, pooler=pooled, **app.config["ANODB"] | {"queries": "queries.sql"})

    def act() -> Any:
        return other.add_stuff(stuff=f"Lamp {next(number)}") if writes else other.get_stuff_sid(sid=1)

    other.open(writes)
    expected = other.assumption("get_auth", fits, login="calvin")
    for _ in range(3):
        other.assume(expected)
        assert act()
    other.verify()
    assert {row["login"] for row in seen} == {"calvin"}
    seen.clear()
    other.commit()
    other.release()

    other.open(writes)
    other.assume(other.assumption("get_auth", fits, login="nobody"))
    with pytest.raises(Problem) as refused:
        act()
    assert (refused.value.status, refused.value.retry) == (503, True)
    other.rollback()
    other.release()
    assert seen == [None]
    assert sql("SELECT count(*) FROM Stuff") == [(2 + 3 * writes,)]
    other.close()


def test_sessions_that_die_a_moment_after_their_use_cost_no_request(client: Any, sql: Any) -> None:
    from database import db

    sessions = warm(db.fresh, db.get_stuff_sid.sql, b"1")
    sql("SELECT pg_terminate_backend(pid, 1000) FROM unnest(%s::INT[]) AS pid", [each.pg.backend_pid for each in sessions])
    for session in sessions:
        session.used = time.monotonic()  # however long that took
    client.get("/stuff/1", 200)
    assert all(session.connection.closed for session in sessions)


def test_what_cannot_be_asked_twice_is_asked_of_a_session_that_is_there(one: Any, sql: Any) -> None:
    session = one.writer.take()
    sql("SELECT pg_terminate_backend(%s, 1000)", session.pg.backend_pid)
    session.used = time.monotonic()
    one.writer.give(session)
    assert one.nap(seconds=0) == ""
    assert session.connection.closed


def test_a_wait_that_ended_by_itself_needs_no_cut(one: Any) -> None:
    session = one.writer.take()
    session._line.shutdown(socket.SHUT_RDWR)
    session._line.close()
    session._line = socket.socket()  # which is not connected
    session.since = 1.0
    session.cut(1.0)
    assert session.silent
    session.close()
    one.writer.give(session)


def test_a_closed_session_leaves_nothing_to_the_collector(one: Any) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            session = one.fresh.take()
            session.run(one.size.sql, [b"x"])
            session.close()
            one.fresh.give(session)
        seen = weakref.ref(session)
        del session
        assert seen() is None
    finally:
        gc.enable()
