"""How statements find their rows: by an index wherever one should serve, however large the tables become."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, QUERIES, TRUNCATE

NAMES = [name for name, _ in QUERIES]
# what reads a table from one end to the other, and why
WHOLE = {
    "get_now": "schema versions are a handful",
    "get_schema": "the same",
    "count_stuff": "a count is that of all that match, on request alone",
    "count_users": "the same",
    "count_owned": "the same",
    "count_audit": "the same",
    "get_seal": "the last entry of an index",
    "list_sequences": "sequences are a handful",
    "get_unsealed": "the whole trail is checked, by command",
    "get_broken_seal": "the whole trail is checked, by command",
}


@pytest.fixture
def plan(sql: Any) -> Any:
    """The plan of a query for any values, had tables outgrown what is better read whole."""

    def explain(statement: Any) -> str:
        sql(f"PREPARE one AS {statement}")
        try:
            values = ", ".join(["NULL"] * len(statement.parameters))
            rows = sql("EXPLAIN (COSTS OFF) EXECUTE one" + (f"({values})" if values else ""))
        finally:
            sql("DEALLOCATE one")
        return "\n".join(line for (line,) in rows)

    import app  # noqa: F401  # before the locks: its start asks for each query

    sql("BEGIN; SET LOCAL plan_cache_mode = force_generic_plan")
    sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    sql(TRUNCATE)  # the planner takes a table for small only where it was seen to be
    yield explain
    sql("ROLLBACK")


@pytest.mark.internal
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_found_by_an_index(plan: Any, name: str) -> None:
    import app  # noqa: F401
    from database import db

    found = re.sub(r".* on era\b.*\n", "", plan(getattr(db, name).sql))  # eras are a handful
    whole = "Seq Scan" in found or any("Index Cond" not in scan for scan in re.findall(r"Index (?:Only )?Scan.*\n?.*", found))
    assert whole == (name in WHOLE), found


@pytest.mark.parametrize("file", sorted((HERE / "bench" / "plans").glob("*.txt")), ids=lambda file: file.stem)
def test_a_million_rows_are_not_read_for_one_page(file: Path) -> None:
    plan = file.read_text()
    # what may stand anywhere in a text is looked for everywhere, for as long as DATABASE_READ_TIMEOUT allows
    assert "Seq Scan" not in plan or file.stem == "filter-in-the-middle"
    assert (file.stem != "filter-by-prefix") or re.search(r"stuff_stuff_key.*\n +Index Cond: \(\(stuff >= 'thing", plan)


@pytest.mark.internal
@pytest.mark.parametrize("name", [*(name for name in NAMES if name.startswith("list_stuff_")), "list_owned_uid"])
def test_a_list_is_planned_once(name: str) -> None:
    from database import db

    session, statement = db.fresh.take(), getattr(db, name).sql
    try:
        for _ in range(20):
            session.run(statement, statement.values({"uid": 1, "after": None, "size": 100}))
        plans = session.connection.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = %s", [name]
        ).fetchone()
    finally:
        session.connection.rollback()
        db.fresh.give(session)
    assert plans is not None
    assert plans[0] >= 15
