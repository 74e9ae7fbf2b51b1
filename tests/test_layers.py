"""The house: who may import whom, queries that hold, and schema scripts that mirror each other."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, QUERIES

ABOVE = {path.stem for path in HERE.glob("*.py")} | {"routes"}
ALONE = {"engine.embedded", "pass2csv"}  # commands
# from the bottom up: a room may import the rooms before it
ROOMS = [
    "engine.types",
    "engine.problem",
    "engine.metrics",
    "engine.db.connect",
    "engine.observe.alarms",
    "engine.observe.tracing",
    "engine.http.errors",
    "engine.fast.lean",
    "engine.db.errors",
    "engine.db.statement",
    "engine.db.check",
    "engine.db.watch",
    "engine.db.session",
    "engine.db.assumption",
    "engine.db.pool",
    "engine.db.standby",
    "engine.db.unit",
    "engine.db.database",
    "engine.db.reference",
    "engine.fast.libpq",
    "engine.http.transaction",
    "engine.http.wire",
    "engine.http.idempotency",
    "engine.openapi.schema",
    "engine.openapi.openapi",
    "engine.http.cors",
    "engine.observe.observe",
    "engine.auth.audit",
    "engine.auth.attempts",
    "engine.auth.hashing",
    "engine.auth.address",
    "engine.auth.user",
    "engine.auth.rates",
    "engine.auth.passwords",
    "engine.auth.tokens",
    "engine.auth.session",
    "engine.auth.keys",
    "engine.auth.totp",
    "engine.auth.schemes",
    "engine.auth.rules",
    "engine.auth.groups",
    "engine.auth.auth",
    "engine.commands",
    "engine.http.bodies",
    "engine.routes",
    "database",
    "model",
    "routes",
    "app",
]
LEAVES = 6  # so many of them import none


def modules() -> dict[str, list[Path]]:
    """Each room, and its files."""
    rooms: dict[str, list[Path]] = {}
    for path in [*HERE.glob("*.py"), *HERE.glob("routes/*.py"), *HERE.glob("engine/**/*.py")]:
        name = ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("routes", "engine.routes"):
            name = folder if name.startswith(folder + ".") else name
        rooms.setdefault(name, []).append(path)
    return rooms


def imports(path: Path) -> set[str]:
    """The rooms that a file imports."""
    names, rooms = set(), modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = {re.sub(r"^((?:engine\.)?routes)\..*", r"\1", name) for name in names}
    return {name for name in found if name in rooms and any(path.stem != "__init__" for path in rooms[name])}


def test_every_module_is_a_room_or_stands_alone() -> None:
    files = modules()
    empty = {name for name, paths in files.items() if [path.stem for path in paths] == ["__init__"]}
    assert sorted([*ROOMS, *ALONE]) == sorted(files.keys() - empty)
    for name in ALONE | empty:
        assert not any(imports(path) for path in files[name]), name


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_the_rooms_below_it(room: str) -> None:
    place = ROOMS.index(room)
    for path in modules()[room]:
        assert imports(path) <= (set(ROOMS[:place]) if place >= LEAVES else set()) | {room}, path


def test_the_engine_imports_nothing_of_the_application() -> None:
    for name, paths in modules().items():
        if name.startswith("engine"):
            for path in paths:
                assert not {found.split(".")[0] for found in imports(path)} & ABOVE, path


def test_a_route_holds_no_sql_no_request_and_no_commit() -> None:
    for path in [*HERE.glob("routes/*.py"), *HERE.glob("engine/routes/*.py")]:
        code = path.read_text()
        assert not re.search(r"\b(SELECT|INSERT|UPDATE|DELETE FROM)\b|\brequest\b(?! )|\.commit\(|\.rollback\(", code), path


def test_every_query_is_called() -> None:
    code = "".join(path.read_text() for path in [*HERE.glob("engine/**/*.py"), *HERE.glob("routes/*.py")])
    for name, _ in QUERIES:
        called = re.sub("_(lock|share)$", "", name)  # which `expected` adds to the name
        assert re.search(rf"\bdb\.{called}\(", code), name


@pytest.mark.internal
def test_every_query_is_valid(sql: Any) -> None:
    import app  # noqa: F401  # which loads them
    from database import db

    for name, parameters in QUERIES:
        statement = db.queries[name]
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
