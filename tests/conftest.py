"""The fixtures of every test: a clean database, the clients, and a door to the database behind the server's back.

The same suite runs inside the process (FLASK_TESTER_APP=app:app, the default) and against a server (FLASK_TESTER_APP=http://...).
Both use the database that libpq's PG* environment names, whose name must end with _test; without PGDATABASE that is stuff_test,
created in the server that is configured, else in the embedded one. A server on another database is refused. At a URL of this
machine where nobody listens, one is started.
"""

import base64
import csv
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from FlaskTester import ft_authenticator, ft_client  # noqa: F401

from engine import embedded

HERE = Path(__file__).parent.parent
SQL = HERE / "engine" / "sql", HERE  # the engine's scripts, then the application's; what undoes them goes backwards
CREATE, QUERY = ("".join((folder / name).read_text() for folder in SQL) for name in ("create.sql", "queries.sql"))
DROP, TRUNCATE = ("".join((folder / name).read_text() for folder in SQL[::-1]) for name in ("drop.sql", "truncate.sql"))
QUERIES = re.findall(r"^-- name: (\w+)\(([^)]*)\)", QUERY, re.MULTILINE)  # and their parameters
DEFAULTS = {"FLASK_TESTER_APP": "app:app", "APP_CONFIG": str(HERE / "tests" / "app.conf"), "BCRYPT_COST": "4"}
os.environ |= DEFAULTS | os.environ
URL = os.environ["FLASK_TESTER_APP"].rstrip("/")
EXTERNAL = URL.startswith("http")
MOUNT = urlsplit(URL).path if EXTERNAL else ""  # where a web server has put the API


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "internal: looks into the process, hence not run against a server")
    config.addinivalue_line("markers", "external: needs the connections of a server, hence not run in-process")


def pytest_sessionstart() -> None:
    """Make the database of the tests, unless the environment names one: `make test` and a deployment do."""
    if not {"PGDATABASE", "PGSERVICE"} & os.environ.keys():
        _, env = embedded.prepare("stuff_test")
        env.setdefault("PGOPTIONS", "-c synchronous_commit=off")
        os.environ.clear()
        os.environ.update(env)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    other = "internal" if EXTERNAL else "external"
    items[:] = [item for item in items if not item.get_closest_marker(other)]


@contextmanager
def _server(dbname: str) -> Iterator[None]:
    """Start a server on our database at a URL of this machine where nobody listens, and stop it afterwards."""
    place = urlsplit(URL)
    host, port = place.hostname or "", place.port or 80
    if host not in ("127.0.0.1", "localhost", "::1") or _listens(host, port):
        yield
        return
    local = HERE / ".local"
    env = os.environ | {"HOST": host.replace("localhost", "127.0.0.1"), "PORT": str(port), "APP_DB": dbname, "KEEP_DB": "1"}
    env |= {"APP_PID": str(local / "pytest.pid"), "APP_LOG": str(local / "test.log")}
    local.mkdir(exist_ok=True)
    try:
        subprocess.run([HERE / "start.sh"], env=env, check=True)
        yield
    finally:
        subprocess.run([HERE / "stop.sh"], env=env, check=True)


def _listens(host: str, port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection((host, port)):
        return True
    return False


def _is_on_our_database(run: Callable[..., list[Any]]) -> bool:
    """Write a version of the schema by SQL and read it over HTTP."""
    mark = random.randrange(10**6, 2**31)
    try:
        run("INSERT INTO Schema_Version VALUES (%s, 'mark of the tests', '', now(), 'application')", mark)
        return bool(requests.get(f"{URL}/version", timeout=30).json()["schema"] == mark)
    except (requests.RequestException, LookupError, TypeError) as error:
        pytest.exit(f"{URL}/version does not tell its schema: {error}", 3)
    finally:
        run("DELETE FROM Schema_Version WHERE name = 'mark of the tests'")


@pytest.fixture(scope="session")
def sql() -> Iterator[Callable[..., list[Any]]]:
    """Run a statement as somebody with psql would; its rows as tuples."""
    with psycopg.connect(autocommit=True, application_name="tests") as connection:
        name = connection.info.dbname
        if not name.endswith("_test"):
            pytest.exit(f"refusing to empty the database {name!r}: a test's ends with _test", 3)

        def run(statement: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

        with _server(name) if EXTERNAL else nullcontext():
            if EXTERNAL and not _is_on_our_database(run):
                pytest.exit(f"refusing to test {URL}: its database is not the one that the tests empty, {name!r}", 3)
            yield run
    if "app" in sys.modules:
        from database import db

        db.close()


@pytest.fixture(scope="session")
def fresh_data(sql: Callable[..., list[Any]]) -> str:
    """What empties the database and loads the demonstration data, the passwords hashed once and for all tests."""
    users = subprocess.run(
        [sys.executable, "pass2csv.py", "--cost", "4", "users.in"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout
    values = ", ".join("('{}', '{}', {})".format(*row) for row in csv.reader(users.splitlines()))
    data = (HERE / "data.sql").read_text()
    data = re.sub(r"(?m)^\\copy (.*) FROM PROGRAM .*$", lambda copy: f"INSERT INTO {copy[1]} VALUES {values};", data)
    empty = TRUNCATE
    if sql("SELECT 1 FROM pg_roles WHERE rolname = current_user AND rolsuper"):  # DELETE makes no files: 100 times as fast
        tables = sql(
            "SELECT relname FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname <> 'schema_version'"
        )
        empty = "SET session_replication_role = replica;"  # no triggers
        empty += "".join(f"DELETE FROM {table};" for (table,) in tables)
        empty += "SELECT setval(seqrelid::regclass, seqstart, FALSE) FROM pg_sequence; SET session_replication_role = origin;"
    return empty + re.sub(r" \\gset .*", ";", data)


_clean_at: list[Any] = []


@pytest.fixture(autouse=True)
def _clean(sql: Callable[..., list[Any]], fresh_data: str) -> None:
    """Start each test from the demonstration data; nobody wrote since if no transaction has a higher number."""
    next_write = "SELECT pg_snapshot_xmax(pg_current_snapshot())::TEXT"
    if sql(next_write) != _clean_at:
        sql(fresh_data)
        _clean_at[:] = sql(next_write)


@pytest.fixture
def client(ft_client: Any) -> Any:  # noqa: F811
    """FlaskTester's client: `client.get(path, status, content, data=, json=, headers=)`."""
    return ft_client


@pytest.fixture
def calvin() -> dict[str, str]:
    """The headers of calvin, administrator, user 1."""
    return basic("calvin", "hobbes")


@pytest.fixture
def hobbes() -> dict[str, str]:
    """The headers of hobbes, user 2."""
    return basic("hobbes", "susie")


@pytest.fixture
def susie() -> dict[str, str]:
    """The headers of susie, user 3."""
    return basic("susie", "derkins")


def basic(login: str, password: str) -> dict[str, str]:
    """The header of Basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


def below(url: str) -> str:
    """The path of a Location or a Link, as the client takes it: below where the API is mounted."""
    assert url.startswith(f"{MOUNT}/")
    return url.removeprefix(MOUNT)


def link(response: Any, rel: str = "next") -> Any:
    """The path that a Link gives for a relation, if it does: the next page."""
    found = re.search(rf'<([^>]*)>; rel="{rel}"', response.headers.get("Link", ""))
    return below(found[1]) if found else None


@pytest.fixture
def raw(client: Any) -> Callable[..., Any]:
    """A request whose body is given byte by byte: `raw(method, path, body, **headers)`; an answer with status_code and json."""

    def send(method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if EXTERNAL:
            base = os.environ["FLASK_TESTER_APP"]
            from FlaskTester import RequestFlaskResponse

            return RequestFlaskResponse(
                client._requests.request(method, base + path, data=body, headers=named, allow_redirects=False)
            )
        return client._client.open(path, method=method, data=body, headers=named)

    return send
