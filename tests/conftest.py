"""The fixtures of every test: a clean database, the clients, and a door to the database behind the server's back.

The same suite runs inside the process (FLASK_TESTER_APP=app:app) and against a server (FLASK_TESTER_APP=http://...), which
must then use the same database: the one that libpq's PG* environment names, whose name must end with _test.
"""

import base64
import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from FlaskTester import ft_authenticator, ft_client  # noqa: F401

HERE = Path(__file__).parent.parent
QUERIES = re.findall(r"^-- name: (\w+)\(([^)]*)\)", (HERE / "queries.sql").read_text(), re.MULTILINE)  # and their parameters
EXTERNAL = os.environ["FLASK_TESTER_APP"].startswith("http")
MOUNT = urlsplit(os.environ["FLASK_TESTER_APP"]).path if EXTERNAL else ""  # where a web server has put the API


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "internal: looks into the process, hence not run against a server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if EXTERNAL:
        items[:] = [item for item in items if not item.get_closest_marker("internal")]


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
    empty = (HERE / "truncate.sql").read_text()
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

            return RequestFlaskResponse(client._requests.request(method, base + path, data=body, headers=named))
        return client._client.open(path, method=method, data=body, headers=named)

    return send
