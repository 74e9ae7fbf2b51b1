"""What an operator may rely on: commands, and the refusal to start when unsafe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import HERE, SQL, basic
from inside import environment

pytestmark = pytest.mark.internal
TESTS = HERE / "tests" / "app.conf"
WELL = "nothing that was looked at would stop a deployment"


@pytest.fixture
def flask() -> Any:
    from app import app

    return lambda *args, **kwargs: app.test_cli_runner().invoke(args=list(args), **kwargs)


def start(tmp_path: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the doctor on a configuration: the tests', with other settings."""
    return doctor(environment(tmp_path, TESTS, **settings))


def doctor(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the doctor in an environment."""
    command = [sys.executable, "-m", "flask", "--app", "app", "doctor"]
    return subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False)


def test_an_unsafe_instance_refuses_to_start_and_names_all_that_is_wrong(tmp_path: Path) -> None:
    unsafe = start(
        tmp_path,
        LOCAL=False,
        FSA_TOKEN_SECRET="short",
        TOTP_KEY="short",
        PASSWORD_COST=9,
        PASSWORD_LENGTH=7,
        FSA_AUTH=["fake", "none"],
        FSA_MODE="dev",
        CORS_ORIGINS=["*"],
    )
    assert unsafe.returncode != 0
    assert "refusing to start" in unsafe.stderr
    for one in (
        "FSA_TOKEN_SECRET",
        "TOTP_KEY",
        "PASSWORD_COST",
        "PASSWORD_LENGTH",
        "fake",
        "debug",
        "CORS_ORIGINS",
        "calvin hobbes",
    ):
        assert one in unsafe.stderr
    assert "short" not in unsafe.stderr.replace("password_too_short", "")


def test_a_deployed_instance_without_demonstration_users_starts(tmp_path: Path, sql: Any) -> None:
    sql("DELETE FROM Owned")
    sql("UPDATE Utilisateur SET pword = '$2b$04$abcdefghijklmnopqrstuuWmYPo7Jb4XqfSPJWqDz6QSPJQfFLmWq'")
    safe = start(tmp_path, LOCAL=False, PASSWORD_COST=10, PASSWORD_LENGTH=8)
    assert (safe.returncode, safe.stdout.splitlines()[-1]) == (0, WELL), safe.stderr


def test_what_could_not_work_stops_a_local_instance_too(tmp_path: Path) -> None:
    wrong = start(tmp_path, CORS_ORIGINS=["*", "shop.example"])
    assert wrong.returncode == 1
    assert wrong.stderr.count("CORS_ORIGINS") == 2


def test_a_local_instance_may_be_anything(tmp_path: Path) -> None:
    assert start(tmp_path, FSA_TOKEN_SECRET=None, PASSWORD_LENGTH=1).stdout.startswith("configuration: ")


def test_the_doctor_says_what_it_looked_at_and_what_would_stop_a_deployment() -> None:
    told = doctor(os.environ | {"APP_CONFIG": str(HERE / "app.conf")})
    assert told.returncode == 1
    assert told.stdout.startswith(f"configuration: {HERE / 'app.conf'} (LOCAL = True)\nlooked at: the token's secret, ")
    assert told.stdout.endswith("; demonstration users in the database\n")
    assert "deployed, it would refuse to start:\n- " in told.stderr
    for one in ("FSA_TOKEN_SECRET", "PASSWORD_LENGTH", "calvin hobbes susie"):
        assert one in told.stderr
    assert told.stderr.count("\n- ") == 3


def test_the_doctor_tells_of_old_names_and_stops_at_unknown_ones(tmp_path: Path) -> None:
    old = start(tmp_path, PROXIES=1, PASSWORD_COST=10, PASSWORD_LENGTH=8)
    assert "\nPROXIES is called TRUSTED_PROXIES now; the old name is accepted in this version alone.\n" in old.stdout
    unknown = start(tmp_path, DATABASE_POL=1, PASSWORD_COST="10")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    for one in ("DATABASE_POL is no setting; did you mean DATABASE_POOL?", "PASSWORD_COST should be integer"):
        assert one in unknown.stderr


def test_the_doctor_says_what_it_could_not_look_at(tmp_path: Path) -> None:
    nowhere = {"db": "postgres", "conn": "host=/nowhere", "queries": "queries.sql"}
    told = start(tmp_path, PASSWORD_COST=10, PASSWORD_LENGTH=8, ANODB=nowhere, PASSWORD_COMMON="/nowhere")
    assert "NOT looked at: demonstration users" in told.stdout
    assert "\n- PASSWORD_COMMON names no file: /nowhere\n" in told.stderr


def test_a_deployed_instance_starts_while_the_database_is_away(tmp_path: Path) -> None:
    nowhere = {"db": "postgres", "conn": "host=/nowhere", "queries": "queries.sql"}
    away = start(tmp_path, LOCAL=False, PASSWORD_COST=10, PASSWORD_LENGTH=8, ANODB=nowhere)
    assert away.returncode == 0
    assert "not checked for demonstration users" in away.stderr


def test_what_a_deployed_instance_is_configured_with_is_safe_but_for_a_bad_secret() -> None:
    env = os.environ | {"APP_CONFIG": str(HERE / "deploy" / "app.conf"), "APP_NAME": "stuff", "REDIS_URL": ""}
    env |= {"PGHOST": "/nowhere", "PGPORT": "5432", "PGDATABASE": "stuff", "PGUSER": "stuff"}
    safe = doctor(env | {"APP_SECRET": "0123456789abcdef" * 4})
    assert (safe.returncode, safe.stdout.splitlines()[-1]) == (0, WELL), safe.stderr
    refused = doctor(env | {"APP_SECRET": "short"})
    assert refused.stderr.count("\n- ") == 1, refused.stderr
    assert "FSA_TOKEN_SECRET" in refused.stderr


def test_the_first_administrator_is_made_by_a_command(flask: Any, client: Any) -> None:
    made = flask("admin", "root", input="a very good password\n")
    assert (made.exit_code, made.output) == (0, "user 4: root\n")
    assert client.get("/admin", 200, headers=basic("root", "a very good password")).json == "hello admin root!"
    for name, password, why in (
        ("root", "swordfish", "taken"),
        ("r:t", "swordfish", "colons"),
        ("new", "x", "too short! It needs 4 characters."),
    ):
        refused = flask("admin", name, input=password + "\n")
        assert refused.exit_code == 1
        assert why in refused.output
        assert password not in refused.output


def test_the_password_is_asked_for_twice_on_a_terminal(client: Any) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flask", "--app", "app", "admin", "root"]
    # without a terminal of its session, the password is read from the standard input
    with subprocess.Popen(command, cwd=HERE, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as run:
        os.close(theirs)
        said = ""
        for question, typed in (
            ("Password (4 characters at least): ", "typed in secret"),
            ("The same again: ", "typed in secert"),
            ("Password (4 characters at least): ", "typed in secret"),
            ("The same again: ", "typed in secret"),
        ):
            while question not in said:
                said += os.read(ours, 1000).decode()
            said = said.partition(question)[2]
            os.write(ours, typed.encode() + b"\n")
    os.close(ours)
    assert run.returncode == 0
    client.get("/admin", 200, headers=basic("root", "typed in secret"))


def test_verifying_without_a_database_says_so(flask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.db.database import DB
    from engine.problem import Problem

    def away(*_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(DB, "execute", away)
    refused = flask("audit-verify")
    assert refused.exit_code == 1
    assert "unavailable" in refused.output


BROKEN = """-- name: get_now()^
SELECT now() AS now, 1 AS schema;

-- name: good(sid)^
-- It's fine: a comment.
SELECT ':no', sid FROM Stuff WHERE sid = :sid;

-- name: bad_column(text, sid)^
-- A column that is none.
SELECT sid
FROM Stuff
-- a comment
WHERE stuff = :text AND colour = :sid;

-- name: bad_type(sid)!
DELETE FROM Stuff WHERE sid = :sid::BOOLEAN;
"""


def test_a_broken_query_is_named_with_its_place(tmp_path: Path) -> None:
    from database import db

    (tmp_path / "some.sql").write_text(BROKEN)
    assert db.faults(tmp_path / "some.sql") == [
        'some.sql:13:25: query bad_column: column "colour" does not exist',
        "some.sql:16:29: query bad_type: operator does not exist: integer = boolean",
    ]


def test_every_query_is_fit_for_the_schema() -> None:
    from database import db

    assert [fault for folder in SQL for fault in db.faults(folder / "queries.sql")] == []


def test_an_application_that_lacks_a_query_of_the_engine_s_does_not_start(tmp_path: Path) -> None:
    queries = (HERE / "queries.sql").read_text().replace("set_epoch(login)", "end_epoch(login)")
    queries = re.sub(r"(?s)get_groups\(uid\)(.*?):uid", r"get_groups(key)\1:key", queries)
    (tmp_path / "queries.sql").write_text(queries)
    told = start(tmp_path, ANODB={"db": "postgres", "conn": "host=/nowhere", "queries": str(tmp_path / "queries.sql")})
    assert told.returncode == 1
    assert told.stderr.endswith(
        "refusing to start:\n"
        "- the application's queries lack set_epoch(login), which the engine calls (docs/engine.md)\n"
        "- the application's query get_groups(key) is called as get_groups(uid) by the engine (docs/engine.md)\n"
    )


@pytest.mark.parametrize(("command", "debug"), [(["flask"], False), (["gunicorn"], False), (["gunicorn"], True)])
def test_a_local_server_with_a_broken_query_does_not_start(tmp_path: Path, command: list[str], debug: bool) -> None:
    queries = (HERE / "queries.sql").read_text().replace("FROM Stuff WHERE sid = :sid;", "FROM Staff WHERE sid = :sid;")
    (tmp_path / "queries.sql").write_text(queries)
    env = environment(tmp_path, TESTS, ANODB={"db": "postgres", "conn": None, "queries": str(tmp_path / "queries.sql")})
    env |= {"FLASK_DEBUG": "1"} if debug else {}
    told = (
        doctor(env)
        if command == ["flask"]
        else subprocess.run(
            [sys.executable, "-c", "import app"], cwd=HERE, env=env, capture_output=True, text=True, check=False
        )
    )
    place = r"queries\.sql:\d+:\d+: query get_stuff_sid: relation \"staff\" does not exist"
    assert bool(re.search(place, told.stderr)) is (command != ["flask"])
    assert ("RuntimeError" in told.stderr) is debug


def test_queries_are_not_checked_in_a_database_that_is_away_or_another_s(sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.db.pool import Pool

    def away(_: Any) -> None:
        raise psycopg.OperationalError

    sql("ALTER TABLE Schema_Version RENAME TO Elsewhere")
    try:
        assert db.faults(Path("/nowhere")) == []
    finally:
        sql("ALTER TABLE Elsewhere RENAME TO Schema_Version")
    monkeypatch.setattr(Pool, "connected", away)
    assert db.faults(Path("/nowhere")) == []


def test_a_query_for_one_row_that_finds_many_is_a_bug(client: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    from engine.db.database import DB

    monkeypatch.setattr(DB, "execute", lambda *_: (2, [{"sid": 1}, {"sid": 2}]))
    client.get("/stuff/1", 500)
    assert "query get_stuff_sid is for one row (^ or $ after its name), 2 came" in caplog.text


def test_a_list_where_the_signature_says_one_is_a_bug(client: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    from database import db
    from engine.http import wire

    def many() -> list[int]:
        return []

    monkeypatch.setitem(vars(db), "get_stuff_sid", lambda **_: [{"sid": 1}])
    client.get("/stuff/1", 500)
    assert "stuff.get_stuff_sid gives a list, its signature says Stuff: does its query lack ^" in caplog.text
    assert many() == []
    wire.check_many(many)


def test_in_debug_mode_a_transaction_may_wait_at_a_breakpoint(sql: Any) -> None:
    from app import app
    from engine.db.database import DB

    for debug, lasts in ((True, "0"), (False, "10s")):
        pool = DB(**{**app.config["ANODB"], "queries": str(HERE / "queries.sql")}, debug=debug)
        session = pool.writer.connected()
        assert session.connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == (lasts,)
        session.close()
