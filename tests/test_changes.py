"""Who follows the changes sees each of them once, none late, and those alone that are his to see."""

import threading
import time
from typing import Any

import psycopg
import pytest
from conftest import basic, below


@pytest.fixture(autouse=True)
def _empty(sql: Any, _clean: None) -> None:
    sql("ALTER TABLE Audit DISABLE TRIGGER audit_only_grows; DELETE FROM Audit; DELETE FROM Era")
    sql("ALTER TABLE Audit ENABLE TRIGGER audit_only_grows")


def onward(response: Any) -> str:
    """The path of the cursor to go on with, which is always there."""
    link = response.headers["Link"]
    assert '>; rel="next"' in link
    return below(link[1:].split(">")[0])


def seen(client: Any, who: Any, path: str = "/changes") -> tuple[list[tuple[str, str, str]], str]:
    """Table, key and event of a page, and the path of the next."""
    page = client.get(path, 200, headers=who)
    return [(row["table"], row["key"], row["event"]) for row in page.json], onward(page)


def test_each_change_is_seen_once_and_there_is_always_a_cursor(client: Any, calvin: Any, hobbes: Any) -> None:
    rows, path = seen(client, calvin)
    assert rows == []
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    client.put("/owned/2/2", 204, json={"object": "Crate"}, headers=hobbes)
    client.get("/admin", 403, headers=hobbes)  # no change of a row
    page = client.get(path, 200, headers=calvin)
    assert [set(row) for row in page.json] == [{"at", "table", "key", "event", "login"}] * 2
    assert [(row["table"], row["key"], row["event"], row["login"]) for row in page.json] == [
        ("stuff", "3", "INSERT", None),
        ("owned", "2", "UPDATE", "hobbes"),
    ]
    rows, path = seen(client, calvin, onward(page))
    assert rows == []
    client.delete("/stuff/3", 204)
    rows, path = seen(client, calvin, path)
    assert rows == [("stuff", "3", "DELETE")]
    assert seen(client, calvin, path)[0] == []


def test_pages_and_tables(client: Any, calvin: Any, sql: Any) -> None:
    sql("INSERT INTO Stuff(stuff) SELECT 'S' || i FROM generate_series(1, 5) AS i; UPDATE Owned SET object = object || '!'")
    rows, path = seen(client, calvin, "/changes?table=Stuff&limit=3")
    more, path = seen(client, calvin, path)
    assert [key for _, key, _ in rows + more] == ["3", "4", "5", "6", "7"]
    assert seen(client, calvin, path)[0] == []


def test_others_than_administrators_see_what_they_own(client: Any, hobbes: Any, susie: Any, sql: Any) -> None:
    client.put("/owned/2/2", 204, json={"object": "Crate"}, headers=hobbes)
    client.post("/password", 204, json={"old": "susie", "new": "suzie"}, headers=hobbes)
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    sql("DELETE FROM Owned WHERE oid = 3; TRUNCATE Owned")
    assert seen(client, basic("hobbes", "suzie"))[0] == [("owned", "2", "UPDATE"), ("utilisateur", "2", "UPDATE")]
    assert seen(client, susie)[0] == [("owned", "3", "DELETE")]


def test_one_whose_own_changes_are_far_ahead_gets_there(client: Any, hobbes: Any, sql: Any) -> None:
    sql("INSERT INTO Stuff(stuff) SELECT 'S' || i FROM generate_series(1, 10001) AS i")
    sql("UPDATE Owned SET object = 'Crate' WHERE oid = 2")
    rows, path = seen(client, hobbes)
    assert rows == []
    assert seen(client, hobbes, path)[0] == [("owned", "2", "UPDATE")]
    assert seen(client, hobbes, "/changes?wait=1")[0] == [("owned", "2", "UPDATE")]


def test_what_is_committed_late_is_not_missed(client: Any, calvin: Any, sql: Any) -> None:
    with psycopg.connect() as slow:
        slow.execute("INSERT INTO Stuff(stuff) VALUES ('Slow')")
        sql("INSERT INTO Stuff(stuff) VALUES ('Fast')")
        time.sleep(0.01)
        rows, path = seen(client, calvin)
        assert rows == []
        text = client.get("/metrics", 200, headers=calvin).text
        lag = next(line for line in text.splitlines() if line.startswith("stuff_changes_lag_seconds "))
        assert float(lag.split()[1]) >= 0.01
    assert [key for _, key, _ in seen(client, calvin, path)[0]] == ["3", "4"]
    assert "stuff_changes_lag_seconds 0\n" in client.get("/metrics", 200, headers=calvin).text


def test_a_thousand_changes_by_many_writers_are_each_seen_once_by_one_who_follows(client: Any, calvin: Any, sql: Any) -> None:
    def write(number: int) -> None:
        with psycopg.connect() as link:
            for i in range(125):
                link.execute("INSERT INTO Stuff(stuff) VALUES (%s)", [f"{number} {i}"])
                if i % (number + 1) == 0:  # some transactions are longer
                    link.commit()

    writers = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for writer in writers:
        writer.start()
    keys: list[str] = []
    path, busy = "/changes", True
    while busy:
        busy = any(writer.is_alive() for writer in writers)
        rows: list[Any] = [None]
        while rows:
            rows, path = seen(client, calvin, path)
            keys += [row[1] for row in rows]
    assert len(keys) == len(set(keys)) == 1000
    assert set(keys) == {str(sid) for (sid,) in sql("SELECT sid FROM Stuff WHERE sid > 2")}


def test_a_cursor_goes_on_in_the_cluster_that_the_trail_was_restored_into(client: Any, calvin: Any, sql: Any) -> None:
    sql("INSERT INTO Era VALUES (0, 1)")
    sql("INSERT INTO Audit(event, tab, key, xid) SELECT 'INSERT', 'old', i, 1000000000000 + i FROM generate_series(1, 2) AS i")
    sql("INSERT INTO Era SELECT max(aid) + 1, system_identifier FROM Audit, pg_control_system() GROUP BY 2")
    rows, path = seen(client, calvin, "/changes?limit=1")
    assert rows == [("old", "1", "INSERT")]
    more, path = seen(client, calvin, path)
    assert more == [("old", "2", "INSERT")]
    rows, path = seen(client, calvin, path)
    assert rows == []
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    rows, path = seen(client, calvin, path)
    assert rows == [("stuff", "3", "INSERT")]
    assert seen(client, calvin, path)[0] == []


@pytest.mark.parametrize("query", ["wait=0", "wait=31", "wait=x", "after=x", "after=WyJhaWQiLDEsMiwzXQ", "limit=0"])
def test_what_is_no_cursor_or_wait_is_refused(client: Any, calvin: Any, query: str) -> None:
    client.get(f"/changes?{query}", 400, headers=calvin)


def test_a_cursor_that_a_restore_undid_is_gone(client: Any, calvin: Any) -> None:
    client.get("/changes?after=WyJjaGFuZ2VzIiwxLDIsM10", 410, headers=calvin)  # ["changes",1,2,3]


def test_an_answer_waits_for_a_change(client: Any, calvin: Any, sql: Any) -> None:
    began = time.monotonic()
    assert seen(client, calvin, "/changes?wait=1")[0] == []
    assert 1 <= time.monotonic() - began < 3

    def write() -> None:
        with psycopg.connect(autocommit=True) as link:
            link.execute("INSERT INTO Stuff(stuff) VALUES ('Lamp')")

    later = threading.Timer(0.5, write)
    later.start()
    began = time.monotonic()
    assert seen(client, calvin, "/changes?wait=20")[0] == [("stuff", "3", "INSERT")]
    assert time.monotonic() - began < 5
    later.join()


def test_one_who_waits_and_is_revoked_is_told_so(client: Any, hobbes: Any, sql: Any) -> None:
    def revoke() -> None:
        with psycopg.connect(autocommit=True) as link:
            link.execute("DELETE FROM Owned WHERE owner = 2")
            link.execute("DELETE FROM Utilisateur WHERE id = 2")

    client.get("/hello", 200, headers=hobbes)
    later = threading.Timer(0.5, revoke)
    later.start()
    began = time.monotonic()
    response = client.get("/changes?wait=20&table=nothing", headers=hobbes)
    later.join()
    assert response.status_code == 401
    assert time.monotonic() - began < 5


@pytest.mark.internal
@pytest.mark.parametrize("why", ["waiters", "bodies"])
def test_others_than_so_many_do_not_wait(client: Any, calvin: Any, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    from app import app

    if why == "waiters":
        monkeypatch.setitem(app.config, "CHANGES_WAITERS", 0)
    else:
        monkeypatch.setattr(app.extensions["bodies"], "readers", 0)
    began = time.monotonic()
    assert seen(client, calvin, "/changes?wait=20")[0] == []
    assert time.monotonic() - began < 5


@pytest.mark.internal
def test_a_wait_holds_no_session_and_is_not_slow(
    client: Any, calvin: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import app
    from database import db
    from engine.routes import changes

    def sleep(seconds: float) -> None:
        for session in [db.fresh.take() for _ in range(db.fresh.size)]:
            db.fresh.give(session)
        time.sleep(seconds)

    monkeypatch.setattr(changes, "sleep", sleep)
    monkeypatch.setitem(app.config, "SLOW_REQUEST", 0.9)
    seen(client, calvin, "/changes?wait=1")
    assert "slow request" not in capsys.readouterr().err
