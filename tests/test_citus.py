"""What deploy/citus.sql makes of the schema, by Citus's documented rules, on a PostgreSQL without Citus.

Functions of the names of Citus's own stand in, and refuse what its documentation says that Citus refuses. Where a statement is
run, and how fast, only Citus can show.
"""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from conftest import CREATE, DROP, HERE, QUERIES

pytestmark = pytest.mark.internal
CITUS = (HERE / "deploy" / "citus.sql").read_text().replace(':"app"', "CURRENT_USER")
# https://docs.citusdata.com/en/stable/develop/reference_ddl.html: keys contain the distribution column, foreign keys of
# distributed tables lead to reference tables. Triggers: https://github.com/citusdata/citus/pull/5705
STAND_IN = """
CREATE TABLE Stand_In(tab REGCLASS PRIMARY KEY, col NAME);  -- no column: a reference table

CREATE FUNCTION create_reference_table(one REGCLASS) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = one AND NOT tgisinternal) THEN
    RAISE 'triggers are not supported on reference tables';
  END IF;
  INSERT INTO Stand_In VALUES (one);
END $$;

CREATE FUNCTION create_distributed_table(one REGCLASS, col NAME) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  place INT2 := (SELECT attnum FROM pg_attribute WHERE attrelid = one AND attname = col AND attnotnull);
BEGIN
  IF place IS NULL OR EXISTS (SELECT FROM pg_index WHERE indrelid = one AND (indisunique OR indisexclusion)
                              AND place <> ALL (indkey::INT2[])) THEN
    RAISE 'a key without the distribution column';
  END IF;
  IF EXISTS (SELECT FROM pg_trigger JOIN pg_proc AS p ON p.oid = tgfoid WHERE tgrelid = one AND NOT tgisinternal
             AND (tgtype & 1 = 0 OR prosrc ~* 'insert|update|delete|select|perform|execute|current_setting')) THEN
    RAISE 'a trigger for each statement, or that looks beyond its row';
  END IF;
  INSERT INTO Stand_In VALUES (one, col);
END $$;

CREATE FUNCTION check_foreign_keys() RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_constraint
             LEFT JOIN Stand_In AS origin ON origin.tab = conrelid LEFT JOIN Stand_In AS target ON target.tab = confrelid
             WHERE contype = 'f' AND (target.col IS NOT NULL OR (origin.tab IS NULL) <> (target.tab IS NULL))) THEN
    RAISE 'a foreign key between tables that do not allow it';
  END IF;
END $$;
"""
CHECK = "SELECT check_foreign_keys()"


@pytest.fixture
def scratch(sql: Any, fresh_data: str) -> Iterator[Any]:
    """A new schema with the demonstration data and the functions that stand in, all of it undone at the end."""
    import app  # noqa: F401  # which loads the queries

    sql("BEGIN")
    try:
        for part in (DROP, CREATE, fresh_data, STAND_IN):
            sql(part)
        yield sql
    finally:
        sql("ROLLBACK")
        sql("DEALLOCATE ALL")


def text(value: Any) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else "'" + value + "'"


@pytest.fixture
def query(scratch: Any) -> Any:
    """Run a query of queries.sql by name on the distributed schema; its one value, or rows."""
    from database import db

    scratch(CITUS)
    scratch(CHECK)

    def run(name: str, **named: Any) -> Any:
        statement = getattr(db, name).sql
        given = ", ".join(text(named[parameter]) for parameter in statement.parameters)
        rows = scratch(f"EXECUTE c_{name}" + (f"({given})" if given else ""))
        return rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else rows

    for name, _ in QUERIES:
        scratch(f"PREPARE c_{name} AS {getattr(db, name).sql}")
    return run


def test_the_schema_is_distributed_as_citus_allows(query: Any, scratch: Any) -> None:
    assert scratch("SELECT tab::TEXT, col FROM Stand_In ORDER BY 1") == [("owned", "owner"), ("owner", None)]
    owners = "SELECT array_agg(id ORDER BY id) FROM "
    assert scratch(owners + "Owner") == scratch(owners + "Utilisateur") != [(None,)]


@pytest.mark.parametrize(
    ("given", "instead", "why"),
    [
        (r"DROP TRIGGER audit_insert ON Owned;", "", "for each statement"),
        (r"DROP TRIGGER audit_truncate ON Owned;", "", "for each statement"),
        (r"PRIMARY KEY \(owner, oid\)", "PRIMARY KEY (oid)", "without the distribution column"),
        (r"REFERENCES Owner;", "REFERENCES Utilisateur;", "do not allow it"),
        (r"create_reference_table\('owner'\)", "create_reference_table('utilisateur')", "on reference tables"),
        (r"create_distributed_table\('owned', 'owner'\)", "create_distributed_table('stuff', 'sid')", "without the"),
    ],
)
def test_what_citus_would_refuse_is_seen(scratch: Any, given: str, instead: str, why: str) -> None:
    changed, count = re.subn(given, instead, CITUS)
    assert count == 1
    with pytest.raises(psycopg.Error, match=why):
        scratch(changed + CHECK)


@pytest.mark.parametrize("name", [name for name, _ in QUERIES if "owned" in name])
def test_a_query_of_what_is_owned_goes_to_one_shard_or_only_reads(name: str) -> None:
    """https://docs.citusdata.com/en/stable/develop/reference_workarounds.html: one shard takes all of SQL."""
    from database import db

    statement = getattr(db, name).sql
    assert not re.search(r"Stuff|Utilisateur|Attempt|Audit|FOR UPDATE|random\(|nextval|set_config", statement)
    if name in ("list_owned", "count_owned"):
        assert not re.search("INSERT|UPDATE|DELETE", statement)
    elif name == "add_owned_uid":
        assert re.fullmatch(r"INSERT INTO Owned\(object, owner\) VALUES \(\$\d, \$\d\) RETURNING oid;?", statement)
    else:
        assert len(re.findall(r"(?:FROM|UPDATE) Owned", statement)) == len(re.findall(r"\bowner = \$", statement)) > 0


def test_what_is_owned_behaves_as_before(query: Any) -> None:
    oid = query("add_owned_uid", uid=2, object="Kite")
    assert query("get_owned_uid_oid", uid=2, oid=oid) == [(oid, "Kite", 2, 1)]
    assert query("get_owned_uid_oid", uid=1, oid=oid) == []
    assert query("upd_owned_uid_oid", uid=2, oid=oid, object="Sled", match=None) == 2
    assert query("upd_owned_uid_oid", uid=2, oid=oid, object="Sled", match="{1}") == 0
    assert query("upd_owned_uid_oid", uid=1, oid=oid, object="Mine", match=None) == []
    assert [one["object"] for one in query("list_owned_uid", uid=2, after=None, size=9)[0][0]] == ["Box", "Sled"]
    items, following = query("list_owned", sort="oid", number=2, text=None, size=3)[0]
    assert ([one["oid"] for one in items], following) == ([3, 4, 5], ["oid", 5])
    assert (query("count_owned"), query("count_owned_uid", uid=2)) == (7, 2)
    assert query("del_owned_uid_oid", uid=2, oid=oid, match="{1}") == 0
    assert query("del_owned_uid_oid", uid=2, oid=oid, match="{2}") == 2
    assert query("del_owned_uid_oid", uid=2, oid=oid, match=None) == []


def test_owners_follow_the_users(query: Any, scratch: Any) -> None:
    uid = query("add_register", login="moe", pword="$")
    query("add_owned_uid", uid=uid, object="Fist")
    refusals = {
        "del_users_uid": ({"uid": uid, "match": None}, psycopg.errors.ForeignKeyViolation),
        "add_owned_uid": ({"uid": 99, "object": "Ghost"}, psycopg.errors.ForeignKeyViolation),
    }
    for name, (named, error) in refusals.items():
        scratch("SAVEPOINT here")
        with pytest.raises(error):
            query(name, **named)
        scratch("ROLLBACK TO SAVEPOINT here")
    scratch("SAVEPOINT here")
    with pytest.raises(psycopg.errors.UniqueViolation):
        query("add_owned_uid", uid=uid, object="Fist")
    scratch("ROLLBACK TO SAVEPOINT here")
    query("del_owned_uid_oid", uid=uid, oid=7, match=None)
    assert query("del_users_uid", uid=uid, match=None) == 1
    assert scratch(f"SELECT count(*) FROM Owner WHERE id = {uid}") == [(0,)]


def test_a_duplicate_is_told_though_a_shard_does_not_name_the_constraint() -> None:
    from engine.db.errors import from_database

    problem = from_database(psycopg.errors.UniqueViolation("duplicate key value"))
    assert (problem.status, problem.code, problem.message, problem.field) == (409, "duplicate", "it is already taken", None)
