"""The house: who may import whom, queries that hold, and schema scripts that mirror each other."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import CREATE, DROP, HERE, QUERIES, TRUNCATE

ALONE = {"engine.embedded", "pass2csv"}  # commands, that nothing imports
# the rooms of the engine, and which others each may import
ARROWS: dict[str, set[str]] = {
    "problem": set(),
    "types": set(),
    "metrics": set(),
    "embedded": set(),
    "setting": set(),
    "settings": {"setting"},
    "db": {"problem", "metrics", "types"},
    "http": {"db", "problem", "metrics", "types"},
    "auth": {"http", "db", "problem", "metrics", "types"},
    "observe": {"http", "db", "problem", "metrics"},
    "openapi": {"http", "problem", "settings", "types"},
    "routes": {"auth", "openapi", "http", "db", "problem", "metrics", "types"},
    "fast": {"http", "db", "problem"},
    "commands": {"settings", "auth", "http", "db", "problem", "types"},
    "application": {"commands", "settings", "fast", "routes", "auth", "observe", "openapi", "http"},
}
ABOVE = {"app", "database", "model", "routes"}
WEB = {"flask", "werkzeug", "FlaskSimpleAuth"}


def names(path: Path) -> set[str]:
    """All that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms() -> list[tuple[str, Path]]:
    """Each file of the engine, and its room."""
    return [
        (path.relative_to(HERE).with_suffix("").parts[1], path) for path in HERE.glob("engine/**/*.py") if path.stat().st_size
    ]


def test_every_file_of_the_engine_is_in_a_room() -> None:
    assert {room for room, _ in rooms()} - {"__init__"} == set(ARROWS)


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_the_rooms_that_it_may(room: str) -> None:
    for place, path in rooms():
        if place == room:
            found = {name.split(".")[1] for name in names(path) if name.startswith("engine.")}
            assert found <= ARROWS[room] | {room}, path


def test_no_arrow_leads_back() -> None:
    left = dict(ARROWS)
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    assert left == {}


def test_the_engine_imports_nothing_of_the_application() -> None:
    for _, path in rooms():
        assert not {name.split(".")[0] for name in names(path)} & ABOVE, path


def test_the_database_s_room_needs_no_web_framework() -> None:
    for room, path in rooms():
        if room in ("db", "problem", "metrics"):
            assert not {name.split(".")[0] for name in names(path)} & WEB, path


def private(path: Path) -> list[str]:
    """The names of others that a file uses although they begin with an underscore."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "mine")):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
    return found


def test_private_names_are_in_one_room() -> None:
    counts = {path: len(private(path)) for _, path in rooms()}
    assert {path for path, count in counts.items() if count and path.parent.name != "fast"} == set()
    assert sum(counts.values()) <= 54  # it may only fall


def test_files_and_functions_do_not_grow() -> None:
    longest = {path: len(path.read_text().splitlines()) for _, path in rooms()}
    assert {path.name: lines for path, lines in longest.items() if lines > 540} == {}  # it may only fall
    for _, path in rooms():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 47, f"{path}: {node.name}"  # it may only fall


def test_what_the_author_edits_fits_on_a_screen() -> None:
    assert {path.stem for path in HERE.glob("*.py")} <= {"app", "auth", "database", "model", "pass2csv"}
    for name in ("app", "auth", "database"):
        path = HERE / f"{name}.py"
        assert not path.exists() or len(path.read_text().splitlines()) <= 40 + 20 * (name == "app"), name


def test_a_route_holds_no_sql_no_request_and_no_commit() -> None:
    for path in [*HERE.glob("routes/*.py"), *HERE.glob("engine/routes/*.py")]:
        code = path.read_text()
        assert not re.search(r"\b(SELECT|INSERT|UPDATE|DELETE FROM)\b|\brequest\b(?! )|\.commit\(|\.rollback\(", code), path


def calls(folder: str) -> set[str]:
    """The queries that a part of the code calls; one that is assumed has two more, with locks."""
    called = set(re.findall(r"\bdb\.(\w+)\(", "".join(path.read_text() for path in HERE.glob(f"{folder}/**/*.py"))))
    return {name for name, _ in QUERIES if re.sub("_(lock|share)$", "", name) in called}


def test_what_the_engine_calls_of_the_application_is_asked_of_it_and_documented() -> None:
    from engine.db import schema

    own = set(re.findall(r"^-- name: (\w+)", schema.QUERIES.read_text(), re.MULTILINE))
    assert calls("engine") - own == schema.ASKED.keys()
    assert own <= calls("engine")
    told = (HERE / "docs" / "engine.md").read_text()
    for name, parameters in schema.ASKED.items():
        assert f"`{name}({', '.join(parameters.split())})`" in told, name


def test_the_engine_s_sql_names_nothing_of_the_application() -> None:
    text = "".join(path.read_text().lower() for path in HERE.glob("engine/sql/**/*") if path.is_file())
    assert "stuff" not in text
    tables = re.findall(r"^CREATE TABLE (\w+)", (HERE / "create.sql").read_text(), re.MULTILINE)
    code = "".join(re.sub("--.*", "", path.read_text()).lower() for path in HERE.glob("engine/sql/**/*.sql"))
    assert [table for table in tables if re.search(rf"\b{table.lower()}\b", code)] == []


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
        sql(DROP)
        assert objects(sql) == []
        sql(CREATE)
        assert objects(sql) == before
        sql(fresh_data)
        sql(TRUNCATE)
        tables = [row[0] for row in sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")]
        filled = [table for table in tables if sql(f"SELECT count(*) FROM {table}") != [(0,)]]
        assert filled == ["schema_version"]
    finally:
        sql("ROLLBACK")
