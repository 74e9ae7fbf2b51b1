"""What the layer below the routes promises: fit sessions, transactions that end, errors that say nothing of the driver."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import EXTERNAL
from inside import warm

MINE = "application_name = 'stuff' AND datname = current_database()"


def kill(sql: Any) -> int:
    """Kill every connection of the server; how many."""
    return len(sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {MINE}"))


def test_a_killed_connection_costs_no_request(client: Any, sql: Any) -> None:
    for _ in range(3):
        client.get("/stuff", 200)
        client.post("/stuff", 409, json={"stuff": "Desk"})
        assert kill(sql) >= 1
        client.get("/stuff/1", 200)
        kill(sql)
        client.put("/stuff/1", 204, json={"stuff": "Chair"})


@pytest.mark.internal
def test_sessions_about_to_end_cost_no_request(client: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.db.session import Session

    for pool in (db.fresh, db.writer):
        pool.close()
        warm(pool, db.get_stuff_sid.sql, b"1")
    monkeypatch.setattr(Session, "alive", Session.idle)  # nothing has come of it yet when they are looked at
    kill(sql)
    client.get("/stuff/1", 200)
    client.put("/stuff/1", 204, json={"stuff": "Stool"})


@pytest.mark.internal
def test_a_session_that_is_lost_under_an_autonomous_statement_is_503(sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.db.session import Session
    from engine.problem import Problem

    db.writer.close()
    warm(db.writer, db.get_stuff_sid.sql, b"1")
    monkeypatch.setattr(Session, "alive", Session.idle)
    kill(sql)
    with pytest.raises(Problem) as caught:
        db.add_event(event="LOGIN", login=None, request="", address="")
    assert caught.value.status == 503


def test_no_connection_is_left_in_a_transaction(client: Any, sql: Any) -> None:
    for path in ("/stuff", "/stuff/1", "/stuff/99", "/version"):
        client.get(path)
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    client.post("/stuff", 409, json={"stuff": "Lamp"})
    client.post("/stuff", 400)
    client.delete("/stuff/99", 404)
    assert sql(f"SELECT pid, state, query FROM pg_stat_activity WHERE {MINE} AND state <> 'idle'") == []


def test_a_refused_write_leaves_nothing(client: Any, sql: Any) -> None:
    client.post("/stuff/batch", 409, json={"items": [{"stuff": "New"}, {"stuff": "Desk"}]})
    assert sql("SELECT count(*) FROM Stuff") == [(2,)]


def test_a_lock_held_too_long_is_504(client: Any) -> None:
    with psycopg.connect() as other:
        other.execute("UPDATE Stuff SET stuff = 'Locked' WHERE sid = 1")
        started = time.monotonic()
        assert client.put("/stuff/1", 504, json={"stuff": "Stool"}).json["code"] == "timeout"
        assert time.monotonic() - started < 5
        client.get("/stuff/1", 200)
        other.rollback()
    client.put("/stuff/1", 204, json={"stuff": "Stool"})


def test_a_deadlock_is_resolved_before_the_client_hears_of_it(client: Any, sql: Any) -> None:
    sql("CREATE FUNCTION deadlock() RETURNS TRIGGER LANGUAGE plpgsql AS "
        "$$ BEGIN IF nextval('deadlocks') < 2 THEN RAISE SQLSTATE '40P01'; END IF; RETURN NEW; END $$")  # fmt: skip
    sql("CREATE SEQUENCE deadlocks START 0 MINVALUE 0")
    sql("CREATE TRIGGER deadlock BEFORE INSERT ON Stuff FOR EACH ROW EXECUTE FUNCTION deadlock()")
    try:
        client.post("/stuff", 201, json={"stuff": "third time lucky"})
        sql("SELECT setval('deadlocks', 0)")
        sql("ALTER SEQUENCE deadlocks INCREMENT -1 MINVALUE -100")
        response = client.post("/stuff", 503, json={"stuff": "never"})
        assert response.json["code"] == "unavailable"
        assert response.headers["Retry-After"]
    finally:
        sql("DROP FUNCTION deadlock CASCADE")
        sql("DROP SEQUENCE deadlocks")
    assert sql("SELECT count(*) FROM Stuff") == [(3,)]


# inside


@pytest.fixture
def db() -> Iterator[Any]:
    from database import db

    db.release()
    db.open(True)
    yield db
    db.rollback()
    db.release()


@pytest.mark.internal
def test_the_server_refuses_a_write_of_a_request_that_reads(db: Any, sql: Any) -> None:
    from engine.problem import Problem

    db.open(False)
    with pytest.raises(Problem) as refused:
        db.add_stuff(stuff="sneaky")
    assert (refused.value.status, refused.value.retry) == (500, False)  # a bug, which another try would not mend
    assert sql("SELECT count(*) FROM Stuff") == [(2,)]


@pytest.mark.internal
def test_a_pool_gives_up_in_time_and_recovers(client: Any, db: Any) -> None:
    taken = [db.fresh.take() for _ in range(db.fresh.size)]
    started = time.monotonic()
    response = client.get("/stuff", 503)
    assert time.monotonic() - started < 5
    assert response.headers["Retry-After"]
    for session in taken:
        db.fresh.give(session)
    client.get("/stuff", 200)


@pytest.mark.internal
def test_a_database_away_is_503_then_all_is_well_again(client: Any, monkeypatch: pytest.MonkeyPatch, db: Any) -> None:
    def away(_: float) -> Any:
        raise psycopg.OperationalError("connection failed: host secret.example password=hunter2")

    db.close()
    with monkeypatch.context() as patch:
        for pool in (db.reader, db.writer):
            patch.setattr(pool, "_make", away)
        for response in (
            client.get("/stuff", 503),
            client.post("/stuff", 503, json={"stuff": "x"}),
            client.get("/ready", 503),
        ):
            assert response.headers["Retry-After"]
            assert "secret" not in response.text
        client.get("/live", 200)
    client.get("/stuff", 200)


@pytest.mark.internal
def test_a_server_that_accepts_and_never_answers_is_given_up(db: Any) -> None:
    from engine.db.statement import Statement

    session = db.reader.take()
    session.wait = 0.2
    sleep = Statement.make("_sleep", "SELECT pg_sleep(1)")
    with pytest.raises(psycopg.OperationalError, match="deadline"):
        session.run(sleep, [])
    assert not session.idle()
    db.reader.give(session)
    assert session not in db.reader._idle


@pytest.mark.internal
def test_a_commit_whose_answer_is_lost_says_so(client: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.db.session import Session

    run = Session.run

    def lose(self: Any, statement: Any, values: Any) -> Any:
        if statement == "COMMIT":
            sql("SELECT pg_terminate_backend(%s)", self.pg.backend_pid)
            time.sleep(0.05)
        return run(self, statement, values)

    monkeypatch.setattr(Session, "run", lose)
    assert client.post("/stuff", 503, json={"stuff": "Lamp"}).json["code"] == "outcome_unknown"
    monkeypatch.undo()
    assert sql("SELECT count(*) FROM Stuff") == [(2,)]


@pytest.mark.internal
def test_a_bug_is_500_and_says_nothing(
    client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.db import database

    def bug(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(database.DB, "execute", bug)
    response = client.get("/stuff", 500, headers={"X-Request-Id": "find-me"})
    assert response.json == {
        "error": "internal error",
        "status": 500,
        "code": "internal_error",
        "request_id": "find-me",
    }
    logged = capsys.readouterr().err
    assert "ZeroDivisionError" in logged
    assert "find-me" in logged


@pytest.mark.internal
def test_a_broken_query_is_500_and_says_nothing(client: Any, sql: Any) -> None:
    sql("ALTER TABLE Stuff RENAME TO Hidden")
    try:
        assert client.get("/stuff", 500).json["error"] == "internal error"
    finally:
        sql("ALTER TABLE Hidden RENAME TO Stuff")
    client.get("/stuff", 200)


def test_a_change_of_the_schema_under_way_costs_no_request(client: Any, sql: Any) -> None:
    client.get("/stuff/1", 200)
    if not EXTERNAL:  # however many sessions know the old one
        from database import db

        warm(db.fresh, db.get_stuff_sid.sql, b"1")
    sql("ALTER TABLE Stuff ALTER sid TYPE BIGINT")
    try:
        client.get("/stuff/1", 200)
    finally:
        sql("ALTER TABLE Stuff ALTER sid TYPE INT")
    client.get("/stuff/1", 200)


@pytest.mark.internal
@pytest.mark.parametrize("read", [None, "replica"])
@pytest.mark.parametrize("pooled", [False, True])
def test_every_kind_of_session_reads_and_writes(sql: Any, pooled: bool, read: str | None) -> None:
    from app import app
    from engine.db import database

    conninfo = psycopg.conninfo.make_conninfo(application_name="replica") if read else None
    settings = app.config["ANODB"] | {"queries": "queries.sql"}
    one = database.DB(read=conninfo, size=2, pooler=pooled, **settings)
    one.open(False)
    assert one.get_stuff_sid(sid=1)["stuff"] == "Chair"
    one.release()
    one.open(True)
    assert one.add_stuff(stuff="Lamp") == 3
    assert one.upd_stuff_sid(sid=3, stuff="Torch", match=None) == 2
    one.commit()
    assert one.del_stuff_sid(sid=3, match=None) == 2
    one.rollback()
    one.release()
    assert sql("SELECT stuff FROM Stuff WHERE sid = 3") == [("Torch",)]
    assert (one.reader is not one.fresh) == (read is not None)
    one.close()


@pytest.mark.internal
def test_nul_never_reaches_the_server() -> None:
    from engine.db.statement import Statement
    from engine.problem import Problem

    with pytest.raises(Problem):
        Statement.make("one", "SELECT :text").values({"text": "a\0b"})


@pytest.mark.internal
def test_a_tag_that_is_none_and_a_name_that_is_taken_stop_the_start(tmp_path: Path) -> None:
    from engine.db.database import DB

    file = tmp_path / "queries.sql"
    for name, comment, why in (("one", "@primary @often", "no such tag: @often"), ("commit", "Ends it.", "commit is taken")):
        file.write_text(f"-- name: {name}()$\n-- {comment}\nSELECT 1;\n")
        with pytest.raises(ValueError, match=why):
            DB(None, str(file))
