"""Reads on standbys, with the tests' own server in a standby's place: what is asked of it, and when the primary instead.

Real standbys, that lag and die, are those of `make check.standbys`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from inside import answers, counted, environment, trace

pytestmark = pytest.mark.internal

NEVER = 10**17  # a position that no server will reach
QUERIES = """
-- name: who()$
SELECT coalesce(current_setting('stuff.side', TRUE), 'primary');

-- name: fresh_who()$
-- @primary
SELECT coalesce(current_setting('stuff.side', TRUE), 'primary');

-- name: application()$
SELECT current_setting('application_name');

-- name: fresh_application()$
-- @primary
SELECT current_setting('application_name');

-- name: get_stuff(sid)$
SELECT stuff FROM Stuff WHERE sid = :sid;

-- name: set_stuff(sid, stuff)!
UPDATE Stuff SET stuff = :stuff WHERE sid = :sid;
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A DB with these queries, in a request that reads, on a standby by default."""
    from app import app
    from engine.db.database import DB

    (tmp_path / "queries.sql").write_text(QUERIES)
    made = []

    def make(**settings: Any) -> Any:
        settings = {
            "read": psycopg.conninfo.make_conninfo(options="-c stuff.side=standby"),
            "size": 2,
            "stale": 60.0,
        } | settings
        made.append(DB(**app.config["ANODB"] | {"queries": str(tmp_path / "queries.sql")} | settings))
        made[-1].open(False)
        return made[-1]

    yield make
    for one in made:
        one.rollback()
        one.release()
        one.close()


def taken_over() -> dict[str, float]:
    """Reads that the primary took over so far, by why."""
    return {"behind": 0.0, "away": 0.0} | counted("stuff_reads_on_primary_total")


def more(before: dict[str, float]) -> dict[str, float]:
    return {why: count - before[why] for why, count in taken_over().items() if count != before[why]}


def trips(session: Any, file: Path, act: Callable[[], Any]) -> list[str]:
    """The statements of each round trip that something takes on a session."""
    end = trace(session, file)
    act()
    return end()


def test_a_read_asks_in_its_own_round_trip_how_far_the_standby_is(make: Any, tmp_path: Path) -> None:
    one = make()
    assert one.get_stuff(sid=1) == "Chair"
    (session,) = one._current.unit.held.values()
    assert trips(session, tmp_path / "trace", lambda: one.get_stuff(sid=1)) == ["_reached get_stuff"]
    plain = make(read=None)
    assert plain.get_stuff(sid=1) == "Chair"
    (session,) = plain._current.unit.held.values()
    assert trips(session, tmp_path / "trace", lambda: plain.get_stuff(sid=1)) == ["get_stuff"]


def test_a_commit_tells_where_it_ends_in_its_own_round_trip(make: Any, tmp_path: Path, sql: Any) -> None:
    one, ends = make(), list[int]()
    one.open(True)
    one.set_stuff(sid=1, stuff="Stool")
    ends.append(one.commit())
    (session,) = one._current.unit.held.values()
    one.set_stuff(sid=1, stuff="Throne")
    assert trips(session, tmp_path / "trace", lambda: ends.append(one.commit())) == ["_commit _position"]
    ((now,),) = sql("SELECT (pg_current_wal_insert_lsn() - '0/0')::BIGINT")
    assert 0 < ends[0] < ends[1] <= now
    assert one.commit() is None  # nothing to commit
    plain = make(read=None)
    plain.open(True)
    plain.set_stuff(sid=1, stuff="Stool")
    assert plain.commit() is None


def test_a_commit_whose_answer_is_lost_says_so(make: Any, sql: Any) -> None:
    from engine.problem import Problem

    one = make()
    one.open(True)
    one.set_stuff(sid=1, stuff="Stool")
    one.commit()  # prepared from now on
    one.set_stuff(sid=1, stuff="Throne")
    (session,) = one._current.unit.held.values()
    lose(session, sql)
    with pytest.raises(Problem) as refused:
        one.commit()
    assert (refused.value.status, refused.value.code) == (503, "outcome_unknown")


def test_a_failed_transaction_has_no_end(make: Any) -> None:
    from engine.problem import Problem

    one = make()
    one.open(True)
    with pytest.raises(Problem):
        one.set_stuff(sid=1, stuff="Desk")
    with pytest.raises(Problem) as refused:
        one.commit()
    assert refused.value.status == 500


@pytest.mark.parametrize("pooled", [False, True])
def test_a_standby_that_is_behind_is_not_asked_again_by_this_request(make: Any, pooled: bool) -> None:
    one, before = make(pooler=pooled), taken_over()
    assert one.who() == "standby"
    assert more(before) == {}
    one.after(NEVER)
    assert [one.who(), one.who(), one.get_stuff(sid=1)] == ["primary", "primary", "Chair"]
    assert more(before) == {"behind": 1}
    one.release()
    one.open(False)
    assert one.who() == "standby"


def test_what_is_fresh_is_not_asked_of_a_standby(make: Any) -> None:
    one = make()
    assert (one.fresh_who(), one.who()) == ("primary", "standby")


def test_nobody_reads_what_is_older_than_the_bound(make: Any) -> None:
    one, before = make(), taken_over()
    assert one.bound.position() > 0
    one.bound._position = NEVER
    assert one.who() == "primary"
    assert more(before) == {"behind": 1}


def test_the_bound_follows_the_primary_from_afar_and_stays_when_it_is_away(
    make: Any, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound, positions = make().bound, list[int]()
    for number in range(6):
        sql("UPDATE Stuff SET stuff = %s WHERE sid = 1", f"version {number}")
        bound.sample()
        positions.append(bound._samples[-1])
    assert positions == sorted(set(positions))
    assert bound._position == positions[2]  # the oldest of four

    def away(_: float) -> Any:
        raise psycopg.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(bound.pool, "_make", away)
        bound.pool.close()
        bound.sample()
        assert bound._position == positions[2]
    bound.sample()
    assert bound._position == positions[3]
    bound._last -= 3 * bound.period  # it was away for long: what others wrote meanwhile is not known
    bound.sample()
    assert list(bound._samples) == [bound._position]
    assert bound._position >= positions[5]


def test_a_primary_that_was_never_seen_hinders_no_read(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: float) -> Any:
        raise psycopg.OperationalError("gone")

    one = make()
    for pool in (one.fresh, one.bound.pool):
        monkeypatch.setattr(pool, "_make", away)
    assert one.who() == "standby"


def test_one_thread_samples_and_the_first_read_starts_it(make: Any) -> None:
    one = make(stale=0.05)
    assert not one.bound._thread
    one.who()
    thread: Any = one.bound._thread
    one.who()
    one.bound._start()  # as another thread would that came at the same time
    assert one.bound._thread is thread
    first = one.bound._last
    deadline = time.monotonic() + 5
    while one.bound._last == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert one.bound._last > first
    one.close()
    assert not thread.is_alive()


def lose(session: Any, sql: Any) -> None:
    sql("SELECT pg_terminate_backend(%s, 1000)", session.pg.backend_pid)


def losing(monkeypatch: pytest.MonkeyPatch, sql: Any, times: int) -> list[int]:
    """Sessions that are lost with what they are asked, so many times; their server processes."""
    from engine.db.session import Session

    batch, lost = Session.batch, list[int]()

    def asked(self: Any, *commands: Any) -> Any:
        if len(lost) < times:
            lost.append(self.pg.backend_pid)
            lose(self, sql)
        return batch(self, *commands)

    monkeypatch.setattr(Session, "batch", asked)
    return lost


def test_a_standby_that_goes_away_is_replaced_by_another(make: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, before = make(), taken_over()
    lost = losing(monkeypatch, sql, 1)
    assert (one.who(), len(lost)) == ("standby", 1)
    assert more(before) == {}


def test_standbys_that_go_away_are_replaced_by_the_primary(make: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, before = make(), taken_over()
    lost = losing(monkeypatch, sql, 2)
    assert (one.who(), len(set(lost))) == ("primary", 2)
    assert more(before) == {"away": 1}


def test_standbys_that_are_away_are_asked_for_once_a_second(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, before, asked = make(), taken_over(), list[float]()

    def away(deadline: float) -> Any:
        asked.append(deadline)
        raise psycopg.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(one.reader, "_make", away)
        for _ in range(3):
            one.open(False)
            assert one.who() == "primary"
            one.release()
    assert len(asked) == 1
    assert more(before) == {"away": 3}
    one.reader.failed -= 1  # a second later
    one.open(False)
    assert one.who() == "standby"


def test_a_standby_whose_schema_is_behind_is_not_believed(make: Any) -> None:
    one, before = make(read=psycopg.conninfo.make_conninfo(options="-c search_path=pg_temp")), taken_over()
    assert one.get_stuff(sid=1) == "Chair"
    assert more(before) == {"away": 1}


def test_what_the_client_got_wrong_is_not_asked_twice(make: Any) -> None:
    from engine.problem import Problem

    one, before = make(), taken_over()
    with pytest.raises(Problem) as refused:
        one.get_stuff(sid="one")
    assert refused.value.status == 400
    assert more(before) == {}


def test_more_reads_than_there_are_sessions_do_not_fill_the_primary(make: Any) -> None:
    from engine.problem import Problem

    one, before = make(timeout=0.1), taken_over()
    taken = [one.reader.take() for _ in range(one.reader.size)]
    with pytest.raises(Problem) as refused:
        one.who()
    assert (refused.value.status, one.fresh._idle) == (503, type(one.fresh._idle)())
    for session in taken:
        one.reader.give(session)
    assert one.who() == "standby"
    assert more(before) == {}


@pytest.mark.parametrize("read", [None, "a standby"])
@pytest.mark.parametrize("pooled", [False, True])
def test_reads_carry_the_request_to_the_log_of_the_database(make: Any, pooled: bool, read: str | None) -> None:
    one = make(trace=True, pooler=pooled, **({} if read else {"read": None}))
    for request in ("first", "second'; --"):
        one.open(False)
        one.follow(lambda request=request: ("", request, ""))
        assert (one.application(), one.fresh_application()) == (f"stuff {request}", f"stuff {request}")
        for session in one._current.unit.held.values():  # it ends with the read
            assert session.connection.execute("SHOW application_name").fetchall() == [("stuff",)]
            session.connection.rollback()
        one.release()


def test_a_traced_read_is_one_round_trip(make: Any, tmp_path: Path) -> None:
    one = make(trace=True)
    one.who()
    (session,) = one._current.unit.held.values()
    assert trips(session, tmp_path / "trace", one.who) == ["_trace _reached who"]


# what a client sees of it, of a server whose reads go to standbys

ASK = """
import json, sys
from app import app
from database import db

client = app.test_client(use_cookies=False)
for method, path, headers, base in json.load(sys.stdin):
    answer = client.open(path, method=method, headers=headers, base_url=base, json={"stuff": path} if method == "PUT" else None)
    print(json.dumps({"status": answer.status_code, "text": answer.text, "headers": dict(answer.headers)}))
db.close()
"""
HOME = "http://localhost/"


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., list[Any]]:
    """The answers to requests, each a method, a path, headers and where the server is mounted."""
    settings: dict[str, Any] = {
        "DATABASE_READ": psycopg.conninfo.make_conninfo(application_name="standby"),
        "DATABASE_STALE": 4.5,
        "FSA_TOKEN_SECRET": "not used here",
        "METRICS_KEY": "a scraper",
        "METRICS_FOLDER": str(tmp_path / "counters"),
        "AUDIT_SEAL": 0,
    }
    env = environment(tmp_path, **settings)
    return lambda *requests: answers(ASK, requests, env)


def test_a_write_tells_where_it_ends_and_a_refused_one_does_not(ask: Any) -> None:
    done, secure, refused, absent, read = ask(
        ("PUT", "/stuff/1", {}, HOME),
        ("PUT", "/stuff/1", {}, "https://shop.example/v1"),
        ("PUT", "/stuff/1", {"If-Match": '"99"'}, HOME),
        ("PUT", "/stuff/99", {}, HOME),
        ("GET", "/stuff/1", {}, HOME),
    )
    token = done["headers"]["Consistency-Token"]
    assert (done["status"], token.isdigit()) == (204, True)
    says = set(done["headers"]["Set-Cookie"].split("; "))
    assert says == {f"consistency-token={token}", "Max-Age=9", "HttpOnly", "Path=/", "SameSite=Lax"} | {
        one for one in says if one.startswith("Expires=")
    }
    assert {"Secure", "Path=/v1"} <= set(secure["headers"]["Set-Cookie"].split("; "))
    assert int(secure["headers"]["Consistency-Token"]) > int(token)
    for answer, status in ((refused, 412), (absent, 404), (read, 200)):
        assert answer["status"] == status
        assert not {"Consistency-Token", "Set-Cookie"} & set(answer["headers"])


def test_a_token_that_never_was_one_is_refused_and_such_a_cookie_ignored(ask: Any) -> None:
    malformed = ["", "x", "-1", "1.5", "1 OR 1=1", "9" * 19, "0/16B3748", "1;2", '"1"', "²"]
    answers = ask(
        *(("GET", "/stuff/1", {"Consistency-Token": token}, HOME) for token in malformed),
        *(("GET", "/stuff/1", {"Cookie": f"consistency-token={token}"}, HOME) for token in malformed),
    )
    for answer in answers[: len(malformed)]:
        assert (answer["status"], json.loads(answer["text"])["code"]) == (400, "invalid_consistency_token")
    for answer in answers[len(malformed) :]:
        assert (answer["status"], json.loads(answer["text"])["stuff"]) == (200, "Chair")


def test_a_token_of_the_future_costs_no_more_than_to_ask_the_primary(ask: Any) -> None:
    *answers, metrics = ask(
        ("GET", "/stuff/1", {}, HOME),
        ("GET", "/stuff/1", {"Consistency-Token": "9" * 18}, HOME),
        ("HEAD", "/stuff/1", {"Cookie": "consistency-token=" + "9" * 18}, HOME),
        ("PUT", "/stuff/1", {"Consistency-Token": "9" * 18}, HOME),
        ("GET", "/nope", {"Consistency-Token": "1"}, HOME),
        ("GET", "/metrics", {"Authorization": "Bearer a scraper"}, HOME),
    )
    assert [answer["status"] for answer in answers] == [200, 200, 200, 204, 404]
    assert 'stuff_reads_on_primary_total{why="behind"} 2' in metrics["text"]


def test_threads_do_not_see_each_others_tokens(make: Any) -> None:
    one, seen = make(), list[str]()
    one.after(NEVER)

    def other() -> None:
        one.open(False)
        seen.append(one.who())
        one.release()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert (seen, one.who()) == (["standby"], "primary")
