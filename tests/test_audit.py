"""What an auditor may rely on: every change and knock at the door is in the trail, and the trail cannot be bent unseen."""

import random
import re
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import HERE, basic, link
from test_database import MINE


@pytest.fixture(autouse=True)
def _empty(sql: Any, _clean: None) -> None:
    """Forget how the demonstration data came in."""
    sql("ALTER TABLE Audit DISABLE TRIGGER audit_only_grows")
    sql("TRUNCATE Audit RESTART IDENTITY; DELETE FROM Era")
    sql("ALTER TABLE Audit ENABLE TRIGGER audit_only_grows")
    if "app" in sys.modules:  # a process of the tests' own begins each with no refusal
        sys.modules["app"].app.extensions["refusals"].forget()


def trail(client: Any, calvin: Any, query: str = "") -> Any:
    return client.get(f"/audit?{query}", 200, headers=calvin).json


def rows(client: Any, calvin: Any, page: Any) -> Any:
    """Those of a page and of all that follow."""
    found = page.json
    while path := link(page):
        page = client.get(path, 200, headers=calvin)
        found += page.json
    return found


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


@pytest.fixture
def newcomer(client: Any) -> str:
    """The login of a user whom no process of the server has refused yet: each bounds what it writes of one."""
    name = f"newcomer{random.randrange(10**9)}"
    client.post("/register", 201, json={"login": name, "pword": "twinky-1985"})
    return name


def test_what_happens_at_the_door_is_told(client: Any, calvin: Any, newcomer: str) -> None:
    known = basic(newcomer, "twinky-1985")
    client.get("/login", 200, headers=known)
    client.get("/login", 401, headers=basic(newcomer, "wrong"))
    client.get("/login", 401, headers=basic("hacker", "wrong"))
    client.get("/admin", 403, headers=known)
    client.delete("/login", 204, headers=known)
    rows = [row for row in trail(client, calvin) if not row["table"]]
    assert [(row["event"], row["login"]) for row in rows] == [
        ("LOGIN", newcomer),
        ("LOGIN_FAILED", newcomer),
        ("LOGIN_FAILED", "hacker"),
        ("REFUSED", newcomer),
        ("LOGOUT", newcomer),
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
    assert (whole.exit_code, whole.output.splitlines()[0]) == (0, "the trail is whole")
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


@pytest.fixture
def crime(sql: Any) -> Any:
    """Do what the owner of the tables can do to the trail."""

    def commit(*statements: str) -> None:
        with psycopg.connect() as owner:
            for table in ("Audit", "Seal"):
                owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_only_grows")
            for statement in statements:
                owner.execute(statement)
            for table in ("Audit", "Seal"):
                owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_only_grows")

    return commit


def verify(*args: str) -> tuple[int, list[str]]:
    from app import app
    from engine import commands

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "PAUSES", (0.0, 0.05))
        run = app.test_cli_runner().invoke(args=["audit-verify", *args])
    assert run.exception is None or isinstance(run.exception, SystemExit)
    return run.exit_code, run.output.splitlines()


def grown(sql: Any, rows: int = 4) -> str:
    """The anchor of a trail of some rows."""
    for _ in range(rows):
        sql("INSERT INTO Audit(event, login) VALUES ('LOGIN', 'hobbes')")
    status, lines = verify()
    assert (status, lines[0]) == (0, "the trail is whole")
    return lines[1].removeprefix("anchor ")


@pytest.mark.internal
@pytest.mark.parametrize(
    ("statements", "unseen"),
    [
        (["DELETE FROM Audit WHERE aid > 2", "DELETE FROM Seal WHERE link > 2"], True),
        (["DELETE FROM Audit", "DELETE FROM Seal"], True),
        (
            [
                "UPDATE Audit SET login = 'susie' WHERE aid = 3",
                "DELETE FROM Seal WHERE link > 2",
                "SELECT seal_audit(10)",
            ],
            True,
        ),
        (["DELETE FROM Audit WHERE aid = 4"], False),
        (["INSERT INTO Audit(aid, event, xid) SELECT 99, 'LOGIN', min(xid) FROM Audit"], False),
        (["INSERT INTO Audit(aid, event, xid) VALUES (99, 'LOGIN', 1000000000000)"], False),
        (["INSERT INTO Seal VALUES (9223372036854775807, 99, '', 99)"], False),
        (["INSERT INTO Seal VALUES (5, 99, '', 1000000000000)", "INSERT INTO Audit(event) VALUES ('LOGIN')"], False),
        (["DROP FUNCTION seal_audit"], False),
    ],
    ids=[
        "tail cut",
        "all cut",
        "rewritten",
        "last row",
        "row put between",
        "row of the future",
        "last link",
        "link",
        "no sealing",
    ],
)
def test_what_is_done_to_the_trail_is_seen_at_once_or_by_an_anchor(
    sql: Any, crime: Any, tmp_path: Path, statements: list[str], unseen: bool
) -> None:
    kept = grown(sql)
    sql("INSERT INTO Audit(event) VALUES ('LOGOUT')")
    if statements[0].startswith("DROP"):
        source = sql("SELECT pg_get_functiondef('seal_audit'::regproc)")[0][0]
    crime(*statements)
    try:
        assert verify()[0] == (0 if unseen else 1)
        assert verify("--anchor", kept)[0] == 1
        log = tmp_path / "log"
        log.write_text(f'{{"event": "audit", "message": "seal {kept}"}}\n')
        status, lines = verify("--anchors", str(log))
        assert status == 1
        if unseen:
            assert "the trail was rewritten or cut" in lines[-1]
    finally:
        if statements[0].startswith("DROP"):
            sql(source)


@pytest.mark.internal
def test_a_trail_that_has_grown_since_agrees_with_an_anchor(sql: Any) -> None:
    kept = grown(sql)
    later = grown(sql)
    assert verify("--anchor", kept, "--anchor", later)[0] == 0
    assert verify("--anchor", "nonsense")[0] == 2


@pytest.mark.internal
def test_verification_waits_for_another_server_that_seals(sql: Any) -> None:
    sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
    with psycopg.connect() as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('Seal'))")
        status, lines = verify()
    assert status == 1
    assert "1 rows of the trail are not sealed, the first is 1" in lines[-1]


@pytest.mark.internal
def test_verification_without_a_database_says_so(monkeypatch: pytest.MonkeyPatch) -> None:

    from engine.db.database import DB
    from engine.problem import Problem

    def away(*_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(DB, "execute", away)
    assert verify()[0] == 1


CRIMES = [
    "INSERT INTO Audit(aid, event) VALUES (2, 'LOGIN')",
    "INSERT INTO Audit(xid, event) VALUES (2, 'LOGIN')",
    "INSERT INTO Audit(at, event) VALUES (now(), 'LOGIN')",
    "INSERT INTO Audit(role, event) VALUES ('postgres', 'LOGIN')",
    "INSERT INTO Seal VALUES (1, 1, '', 1)",
    "INSERT INTO Era VALUES (1, 1)",
    "SELECT setval('audit_aid_seq', 1)",
    "UPDATE Audit SET login = NULL",
    "DELETE FROM Audit",
    "CALL keep_trail('stuff', 'sid', 'sid')",
]


def test_the_role_of_the_application_adds_to_the_trail_and_seals_it_but_does_no_more(sql: Any) -> None:
    schema = sql("SELECT current_schema()")[0][0]
    # the server's own role, where that is another one than ours: a deployment has given it its rights
    theirs = sql(f"SELECT usename FROM pg_stat_activity WHERE {MINE} AND usename <> current_user LIMIT 1")
    sql("BEGIN")
    try:
        if theirs:
            role = theirs[0][0]
        else:
            role = "some_app"
            sql(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}")
            sql(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema} TO {role}")
            sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
            sql((HERE / "deploy" / "grants.sql").read_text().replace(':"app"', role))
        sql(f"SET LOCAL ROLE {role}; INSERT INTO Stuff(stuff) VALUES ('Lamp'); INSERT INTO Audit(event) VALUES ('LOGIN')")
        assert sql("SELECT event FROM Audit ORDER BY aid") == [("INSERT",), ("LOGIN",)]
        assert sql("SELECT seal_audit(10)") == [(0,)]  # this transaction is not over
        for statement in CRIMES:
            sql("SAVEPOINT here")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql(statement)
            sql("ROLLBACK TO here")
    finally:
        sql("ROLLBACK")


def test_a_trail_that_was_restored_elsewhere_goes_on(sql: Any, client: Any, calvin: Any) -> None:
    """There, transactions are numbered from the start again."""
    sql("INSERT INTO Era VALUES (0, 1)")  # the cluster that wrote what follows
    sql("INSERT INTO Audit(event, xid) SELECT 'LOGIN', 1000000000000 - i FROM generate_series(1, 4) AS i")
    sql("INSERT INTO Seal SELECT 1, aid, audit_hash(NULL, Audit), xid FROM Audit WHERE aid = 4")
    sql("INSERT INTO Audit(event) VALUES ('LOGIN'), ('LOGOUT')")
    assert sql("SELECT seal_audit(2)") == [(2,)]
    first = client.get("/audit?limit=3", 200, headers=calvin)
    for number in (1, 2, 0):  # of one era at once
        assert sql("SELECT seal_audit(2)") == [(number,)]
    assert sql("SELECT link, aid FROM Seal ORDER BY link") == [(1, 4), (2, 3), (3, 2), (4, 1), (5, 5), (6, 6)]
    assert sql("SELECT count(*) FROM Era") == [(2,)]
    sql("INSERT INTO Audit(event) VALUES ('LOGIN')")
    assert sql("SELECT seal_audit(2), seal_audit(2)") == [(1, 0)]
    assert [row["aid"] for row in rows(client, calvin, first)] == [4, 3, 2, 1, 5, 6, 7]
    newest = client.get("/audit?sort=-aid&limit=5", 200, headers=calvin)
    assert [row["aid"] for row in newest.json + client.get(link(newest), 200, headers=calvin).json] == [7, 6, 5, 1, 2, 3, 4]


def test_a_reader_who_follows_the_trail_misses_no_row_that_is_committed_late(client: Any, sql: Any, calvin: Any) -> None:
    sql("INSERT INTO Audit(event) VALUES ('LOGIN'), ('LOGIN')")
    with psycopg.connect() as slow:
        slow.execute("INSERT INTO Stuff(stuff) VALUES ('Slow')")
        sql("INSERT INTO Stuff(stuff) VALUES ('Fast'), ('Faster')")
        first = client.get("/audit?limit=1", 200, headers=calvin)
        assert len(client.get("/audit", 200, headers=calvin).json) == 2
        newest = client.get("/audit?sort=-aid&limit=2", 200, headers=calvin).json
        assert [row["after"]["stuff"] for row in newest] == ["Faster", "Fast"]
    assert [row["after"]["stuff"] for row in rows(client, calvin, first)[2:]] == ["Slow", "Fast", "Faster"]


@pytest.mark.parametrize("after", ["x", "WyJhaWQiXQ", "WyJhaWQiLDEsMiwzLDRd", "WyJhaWQiLC0xLDIsM10", "WyItYWlkIiwxLDIsM10"])
def test_a_place_that_is_none_of_the_trail_is_refused(client: Any, calvin: Any, after: str) -> None:
    client.get(f"/audit?after={after}", 400, headers=calvin)
    client.get("/audit", 400, json={"after": 1}, headers=calvin)


def test_a_place_that_a_restore_undid_is_gone(client: Any, calvin: Any) -> None:
    error = client.get("/audit?after=WyJhaWQiLDEsMiwzXQ", 410, headers=calvin).json  # ["aid",1,2,3]
    assert error["code"] == "gone"
    client.get("/audit?sort=-aid&after=WyItYWlkIiwxLDIsM10", 410, headers=calvin)
    client.get("/audit?sort=at", 400, headers=calvin)


def test_the_history_of_a_row_is_found(client: Any, calvin: Any) -> None:
    for stuff in ("Stool", "Bench"):
        client.put("/stuff/1", 204, json={"stuff": stuff})
        client.put("/stuff/2", 204, json={"stuff": stuff + " 2"})
    assert [row["after"]["stuff"] for row in trail(client, calvin, "table=stuff&key=1")] == ["Stool", "Bench"]


TRACKED = {"stuff": set(), "utilisateur": {"pword"}, "owned": set()}  # table: columns that the trail does not keep


def test_the_trail_keeps_the_columns_that_are_named_and_no_other(sql: Any) -> None:
    tables = sql(
        "SELECT DISTINCT relname::TEXT FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid WHERE tgname = 'audit_insert'"
    )
    assert {table for (table,) in tables} == TRACKED.keys()
    for table, left in TRACKED.items():
        columns = {
            name for (name,) in sql("SELECT column_name::TEXT FROM information_schema.columns WHERE table_name = %s", table)
        }
        (kept,) = sql(
            f"SELECT regexp_matches(pg_get_functiondef('audit_{table}'::regproc), 'jsonb_build_object\\(([^)]*)\\)')"
        )[0]
        named = set(re.findall(r"'(\w+)', n\.\1", kept[0]))
        assert named == columns - left, table
        sql("BEGIN")
        try:
            sql(f"ALTER TABLE {table} ADD COLUMN fresh_secret TEXT DEFAULT 'secret'")
            sql(f"UPDATE {table} SET fresh_secret = 'changed'")
            kept = sql("SELECT event, key, before, after FROM Audit")
            assert kept
            assert "secret" not in str(kept)
        finally:
            sql("ROLLBACK")


def test_a_row_whose_key_changes_is_two_rows_of_the_trail(client: Any, sql: Any, calvin: Any) -> None:
    sql("UPDATE Stuff SET sid = 77 WHERE sid = 1")
    rows = sorted(trail(client, calvin), key=lambda row: int(row["key"]))
    assert [(row["key"], bool(row["before"]), bool(row["after"])) for row in rows] == [("1", True, False), ("77", False, True)]


def test_refusals_beyond_a_bound_are_counted_and_not_written(client: Any, newcomer: str, sql: Any) -> None:
    for _ in range(40):
        client.get("/admin", 403, headers=basic(newcomer, "twinky-1985"))
    (kinds,) = sql("SELECT array_agg(DISTINCT event ORDER BY event), count(*) FROM Audit WHERE tab IS NULL")
    assert kinds[0] == ["REFUSED", "REFUSED_MORE"]
    assert kinds[1] <= 33  # of each process


@pytest.mark.internal
def test_refusals_are_written_again_in_the_next_period(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.auth import audit

    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    refusals = audit.Refusals()
    made = [refusals.event(f"login{i}", "1.2.3.4") for i in range(102)]
    assert made == ["REFUSED"] * 100 + ["REFUSED_MORE", None]
    now[0] += 60
    assert refusals.event("login", "1.2.3.4") == "REFUSED"


@pytest.mark.internal
def test_a_refused_transport_leaves_no_row(sql: Any) -> None:
    from app import app

    response = app.test_client().get("/hello", headers=basic("hobbes", "susie"), environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert (response.status_code, response.json["code"]) == (403, "insecure_transport")
    assert sql("SELECT count(*) FROM Audit") == [(0,)]


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
    sealer.seal()  # nothing is left
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

    monkeypatch.setattr(audit, "write", away)
    response = client.get("/admin", 503, headers=hobbes)
    assert response.headers["Retry-After"]
    assert response.headers["X-Request-Id"]
