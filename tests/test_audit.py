"""What an auditor may rely on: every change and knock at the door is in the trail, and the trail cannot be bent unseen."""

from typing import Any

import psycopg
import pytest
from conftest import basic, link


@pytest.fixture(autouse=True)
def _empty(sql: Any, _clean: None) -> None:
    """Forget how the demonstration data came in."""
    sql("ALTER TABLE Audit DISABLE TRIGGER audit_only_grows")
    sql("TRUNCATE Audit RESTART IDENTITY")
    sql("ALTER TABLE Audit ENABLE TRIGGER audit_only_grows")


def trail(client: Any, calvin: Any, query: str = "") -> Any:
    return client.get(f"/audit?{query}", 200, headers=calvin).json


def test_a_change_is_told_with_who_when_where_before_and_after(client: Any, calvin: Any, hobbes: Any) -> None:
    client.put("/owned/2/2", 204, json={"object": "Crate"}, headers=hobbes | {"X-Request-Id": "the-id"})
    (row,) = trail(client, calvin)
    assert row["after"] == {"oid": 2, "object": "Crate", "owner": 2, "version": 2}
    assert row["before"] == {"oid": 2, "object": "Box", "owner": 2, "version": 1}
    named = {name: row[name] for name in ("event", "table", "key", "login", "request", "address")}
    assert named == {
        "event": "UPDATE", "table": "owned", "key": "2", "login": "hobbes", "request": "the-id", "address": "127.0.0.1",
    }  # fmt: skip
    assert row["at"].endswith("+00:00")


def test_a_change_by_psql_is_told_too(client: Any, sql: Any, calvin: Any) -> None:
    sql("UPDATE Stuff SET stuff = 'Stool' WHERE sid = 1")
    sql("DELETE FROM Stuff WHERE sid = 2")
    sql("TRUNCATE Stuff")
    rows = trail(client, calvin)
    assert [(row["event"], row["table"], row["key"], row["login"]) for row in rows] == [
        ("UPDATE", "stuff", "1", None), ("DELETE", "stuff", "2", None), ("TRUNCATE", "stuff", None, None)]  # fmt: skip
    assert {row["role"] for row in rows} == {sql("SELECT session_user")[0][0]}


def test_the_trail_holds_no_hash(client: Any, calvin: Any) -> None:
    client.post("/register", 201, json={"login": "moe", "pword": "secret"})
    client.post("/password", 204, json={"old": "secret", "new": "other"}, headers=basic("moe", "secret"))
    rows = trail(client, calvin)
    assert {row["event"] for row in rows} == {"INSERT", "UPDATE"}
    assert "$2b$" not in str(rows)


def test_a_write_that_was_refused_is_not_told(client: Any, calvin: Any) -> None:
    client.post("/stuff", 409, json={"stuff": "Desk"})
    client.post("/stuff/batch", 409, json={"items": [{"stuff": "One"}, {"stuff": "Desk"}]})
    assert trail(client, calvin) == []


def test_what_happens_at_the_door_is_told(client: Any, calvin: Any, hobbes: Any) -> None:
    client.get("/login", 200, headers=hobbes)
    client.get("/login", 401, headers=basic("hobbes", "wrong"))
    client.get("/login", 401, headers=basic("hacker", "wrong"))
    client.get("/admin", 403, headers=hobbes)
    client.delete("/login", 204, headers=hobbes)
    rows = [row for row in trail(client, calvin) if not row["table"]]
    assert [(row["event"], row["login"]) for row in rows] == [
        ("LOGIN", "hobbes"),
        ("LOGIN_FAILED", "hobbes"),
        ("LOGIN_FAILED", "hacker"),
        ("REFUSED", "hobbes"),
        ("LOGOUT", "hobbes"),
    ]
    assert all(row["request"] and row["address"] == "127.0.0.1" for row in rows)


def test_the_trail_may_grow_beyond_the_integers(client: Any, sql: Any, calvin: Any) -> None:
    sql("SELECT setval('audit_aid_seq', 3000000000)")
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    client.post("/stuff", 201, json={"stuff": "Sofa"})
    first = client.get("/audit?limit=1", 200, headers=calvin)
    second = client.get(link(first), 200, headers=calvin)
    assert [row["after"]["stuff"] for row in first.json + second.json] == ["Lamp", "Sofa"]


def test_the_trail_is_searched_and_paged(client: Any, sql: Any, calvin: Any, hobbes: Any) -> None:
    client.put("/owned/2/2", 204, json={"object": "Crate"}, headers=hobbes)
    client.put("/stuff/1", 204, json={"stuff": "Stool"})
    middle = sql("SELECT to_json(clock_timestamp())")[0][0]
    client.put("/stuff/1", 204, json={"stuff": "Chair"})
    assert [row["table"] for row in trail(client, calvin, "login=hobbes")] == ["owned"]
    assert [row["table"] for row in trail(client, calvin, "table=Stuff")] == ["stuff", "stuff"]
    after = client.get("/audit", 200, data={"since": middle}, headers=calvin).json
    assert [row["after"]["stuff"] for row in after] == ["Chair"]
    first = client.get("/audit?limit=2", 200, headers=calvin)
    path = link(first)
    assert [row["aid"] for row in first.json + client.get(path, 200, headers=calvin).json] == [1, 2, 3]


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00", "", "2026-13-01T00:00:00Z"])
def test_since_is_a_time_with_an_offset(client: Any, calvin: Any, since: str) -> None:
    client.get("/audit", 400, data={"since": since}, headers=calvin)
    client.get("/audit?since=2026-01-01T00:00:00Z", 200, headers=calvin)


def test_the_trail_only_grows(sql: Any) -> None:
    sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
    sql("SELECT seal_audit(10)")
    for table in ("Audit", "Seal"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET aid = 0", f"TRUNCATE {table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql(statement)


def test_rows_are_sealed_once_and_only_when_their_order_is_settled(sql: Any) -> None:
    sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
    with psycopg.connect() as slow:
        slow.execute("INSERT INTO Audit(event) VALUES ('LOGIN')")  # takes row 2, and its time
        sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
        assert sql("SELECT seal_audit(10)") == [(1,)]
    assert sql("SELECT seal_audit(10)") == [(2,)]
    assert sql("SELECT seal_audit(10)") == [(0,)]
    assert sql("SELECT aid FROM Seal ORDER BY link") == [(1,), (2,), (3,)]


@pytest.mark.internal
@pytest.mark.parametrize(
    "crime",
    ["UPDATE Audit SET login = 'x' WHERE aid = 2", "DELETE FROM Audit WHERE aid = 2", "DELETE FROM Seal WHERE link = 2"],
)
def test_the_first_broken_link_is_found(sql: Any, crime: str) -> None:
    from app import app

    verify = app.test_cli_runner()
    for _ in range(3):
        sql("INSERT INTO Audit(event, login) VALUES ('LOGIN', 'hobbes')")
    whole = verify.invoke(args=["audit-verify"])
    assert (whole.exit_code, whole.output) == (0, "the trail is whole\n")
    with psycopg.connect() as owner:
        owner.execute("ALTER TABLE Audit DISABLE TRIGGER audit_only_grows")
        owner.execute("ALTER TABLE Seal DISABLE TRIGGER seal_only_grows")
        owner.execute(crime)
        owner.execute("ALTER TABLE Audit ENABLE TRIGGER audit_only_grows")
        owner.execute("ALTER TABLE Seal ENABLE TRIGGER seal_only_grows")
    broken = verify.invoke(args=["audit-verify"])
    assert broken.exit_code == 1
    link = 3 if "Seal" in crime else 2
    assert f"link {link} is broken" in broken.output


def test_a_trail_that_was_restored_elsewhere_goes_on(sql: Any) -> None:
    """There, transactions are numbered from the start again."""
    sql("INSERT INTO Audit(event, xid) SELECT 'LOGIN', 1000000000000 - i FROM generate_series(1, 4) AS i")
    sql("INSERT INTO Seal SELECT 1, aid, audit_hash(NULL, Audit) FROM Audit WHERE aid = 2")
    sql("INSERT INTO Audit(event) VALUES ('LOGIN'), ('LOGOUT')")
    for number in (2, 2, 1, 0):  # two at once
        assert sql("SELECT seal_audit(2)") == [(number,)]
    assert sql("SELECT link, aid FROM Seal ORDER BY link") == [(1, 2), (2, 4), (3, 3), (4, 1), (5, 5), (6, 6)]
    sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
    assert sql("SELECT seal_audit(2), seal_audit(2)") == [(1, 0)]


@pytest.mark.internal
def test_the_sealer_seals_from_time_to_time(sql: Any, client: Any) -> None:
    import time

    from engine.auth import audit

    sealer = audit.Sealer(0.05)
    sealer.batch = 1
    for stuff in ("Lamp", "Rug"):
        client.post("/stuff", 201, json={"stuff": stuff})
    sealer.start()
    sealer.start()
    for _ in range(100):
        if sql("SELECT count(*) FROM Seal") == [(2,)]:
            break
        time.sleep(0.05)
    sealer.period = 0
    assert sealer._thread is not None
    sealer._thread.join(5)
    assert not sealer._thread.is_alive()
    assert sql("SELECT link, aid FROM Seal ORDER BY link") == [(1, 1), (2, 2)]


@pytest.mark.internal
def test_a_sealer_without_a_database_tries_again_later(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from engine.auth import audit
    from engine.db.database import DB
    from engine.problem import Problem

    def away(*_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(DB, "execute", away)
    audit.Sealer(0).seal()
    assert "not sealed" in capsys.readouterr().err


@pytest.mark.internal
def test_a_refusal_that_cannot_be_told_is_503(client: Any, hobbes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.auth import audit
    from engine.problem import Problem

    def away(*_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(audit, "event", away)
    response = client.get("/admin", 503, headers=hobbes)
    assert response.headers["Retry-After"]
    assert response.headers["X-Request-Id"]
