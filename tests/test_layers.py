"""The house: who may import whom, queries that hold, and schema scripts that mirror each other."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, QUERIES

OURS = {path.stem for path in HERE.glob("*.py")} | {"routes"}
ALONE = {"embedded", "pass2csv"}  # commands
# from the bottom up: a room may import the rooms before it
ROOMS = [
    "model",
    "errors",
    "lean",
    "connect",
    "metrics",
    "alarms",
    "tracing",
    "session",
    "position",
    "database",
    "wire",
    "idempotency",
    "openapi",
    "cors",
    "observe",
    "audit",
    "attempts",
    "auth",
    "commands",
    "bodies",
    "routes",
    "app",
]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & OURS


def test_every_module_is_a_room_or_stands_alone() -> None:
    assert sorted([*ROOMS, *ALONE]) == sorted(OURS)
    for command in ALONE:
        assert not imports(HERE / f"{command}.py"), command


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_the_rooms_below_it(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room)])
    if room in ("model", "errors", "lean", "connect", "metrics", "alarms", "tracing"):
        allowed = set()
    for path in (HERE / room).glob("*.py") if room == "routes" else [HERE / f"{room}.py"]:
        assert imports(path) <= allowed, path


def test_a_route_holds_no_sql_no_request_and_no_commit() -> None:
    for path in (HERE / "routes").glob("*.py"):
        code = path.read_text()
        assert not re.search(r"\b(SELECT|INSERT|UPDATE|DELETE FROM)\b|\brequest\b(?! )|\.commit\(|\.rollback\(", code), path


def test_every_query_is_called() -> None:
    code = "".join(path.read_text() for path in [*HERE.glob("*.py"), *HERE.glob("routes/*.py")])
    for name, _ in QUERIES:
        assert re.search(rf"\bdb\.{name}\(", code), name


@pytest.mark.internal
def test_every_query_is_valid(sql: Any) -> None:
    import app  # noqa: F401  # which loads them
    from database import db

    for name, parameters in QUERIES:
        statement = getattr(db, name).sql
        assert set(statement.parameters) == {p.strip() for p in parameters.split(",") if p.strip()}
        sql(f"PREPARE q_{name} AS {statement}")
        sql(f"DEALLOCATE q_{name}")


def objects(sql: Any) -> Any:
    """Everything that the schema holds, by kind and name."""
    return sql(
        "SELECT 'relation', relname::TEXT FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        " UNION ALL SELECT 'type', typname FROM pg_type WHERE typnamespace = current_schema()::regnamespace ORDER BY 1, 2"
    )


def test_drop_mirrors_create_and_truncate_empties_all(sql: Any, fresh_data: str) -> None:
    before = objects(sql)
    sql("BEGIN")
    try:
        sql((HERE / "drop.sql").read_text())
        assert objects(sql) == []
        sql((HERE / "create.sql").read_text())
        assert objects(sql) == before
        sql(fresh_data)
        sql((HERE / "truncate.sql").read_text())
        tables = [row[0] for row in sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")]
        filled = [table for table in tables if sql(f"SELECT count(*) FROM {table}") != [(0,)]]
        assert filled == ["schema_version"]
    finally:
        sql("ROLLBACK")
