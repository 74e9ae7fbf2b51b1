"""The way from one schema to the next: both tracks of migrations, their runner, and create.sql, which is where they lead."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import HERE, SQL

pytestmark = pytest.mark.internal  # of files and a database of its own schemas: no server takes part

TRACKS = [[str(step.relative_to(HERE)) for step in sorted((folder / "migrations").glob("[0-9]*.sql"))] for folder in SQL]
STEPS = [step for track in TRACKS for step in track]
LAST = len(TRACKS[1])
CREATE = [argument for folder in SQL for argument in ("-f", str(folder / "create.sql"))]


class Place:
    """An empty schema of the test's database, and a copy of the migrations that a test may add to."""

    def __init__(self, sql: Any, name: str, folder: Path) -> None:
        self.sql, self.name, self.folder = sql, name, folder
        self.env = os.environ | {"PGOPTIONS": f"-c search_path={name}", "LOCK_TIMEOUT": "200ms"}
        shutil.copytree(HERE / "engine" / "sql", folder / "engine" / "sql")
        shutil.copytree(HERE / "migrations", folder / "migrations")

    def start(self, *args: str) -> subprocess.Popen[str]:
        command = [str(self.folder / "engine" / "sql" / "migrate"), *args]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def migrate(self, *args: str) -> tuple[int, list[str], str]:
        """Exit status, the migrations named, and what went wrong."""
        run = self.start(*args)
        out, err = run.communicate()
        return run.returncode, out.splitlines(), err

    def add(self, text: str, name: str = "more") -> str:
        folder = self.folder / "migrations"
        file = folder / f"{len(list(folder.glob('[0-9]*.sql'))) + 1:03d}-{name}.sql"
        file.write_text(text + "\n")
        return f"migrations/{file.name}"

    def psql(self, *args: str) -> None:
        subprocess.run(["psql", "-qX1", "-v", "ON_ERROR_STOP=1", *args], env=self.env, cwd=HERE, check=True)

    def versions(self) -> Any:
        return self.sql(f"SELECT component, version, name, checksum FROM {self.name}.Schema_Version ORDER BY 1, 2")

    def dump(self) -> str:
        """The schema as text, whatever its name."""
        command = ["pg_dump", "--schema-only", "--no-owner", "--no-acl", f"--schema={self.name}"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return re.sub(r"^(--|\\|$).*\n", "", text, flags=re.MULTILINE).replace(self.name, "here")


def parts(dump: str) -> set[str]:
    """Each line of a dump beside the table, function... that it belongs to, so that a difference names both."""
    statements = [statement.splitlines() for statement in re.split(r"(?<=;)\n(?=[A-Z])", dump.strip())]
    return {f"{first}  {line.strip().rstrip(',')}" for first, *rest in statements for line in rest or [""]}


@pytest.fixture
def place(sql: Any, tmp_path: Path) -> Iterator[Place]:
    sql("CREATE SCHEMA steps")
    yield Place(sql, "steps", tmp_path)
    sql("SET client_min_messages = error")
    sql("DROP SCHEMA steps CASCADE")


@pytest.fixture
def migrated(place: Place) -> Place:
    assert place.migrate()[0] == 0
    return place


def check_equal(place: Place, found: str) -> None:
    """Compare the schema with one that the scripts make, its versions as well."""
    migrated, versions = place.dump(), place.versions()
    place.sql("DROP SCHEMA steps CASCADE")
    place.sql("CREATE SCHEMA steps")
    place.psql(*CREATE)
    created = place.dump()
    assert parts(created) - parts(migrated) == set(), "in create.sql alone"
    assert parts(migrated) - parts(created) == set(), f"{found} alone"
    assert migrated.splitlines() == created.splitlines()  # the order of columns, too
    assert versions == place.versions()


def test_create_is_the_sum_of_the_migrations(place: Place) -> None:
    assert place.migrate() == (0, STEPS, "")
    assert place.migrate() == (0, [], "")
    check_equal(place, "in migrations/")


LATER = [step for step in STEPS if not step.endswith("-initial.sql")]  # than 1.0.0


def test_a_database_of_1_0_0_becomes_a_new_one(place: Place) -> None:
    place.psql("-f", "tests/schema-1.0.0.sql", "-c", "INSERT INTO Stuff(stuff) VALUES ('kept')")
    before = place.dump()
    assert place.migrate("--pending") == (0, LATER, "")
    assert place.migrate("--dry-run") == (0, LATER, "")
    assert place.dump() == before
    assert place.migrate() == (0, LATER, "")
    assert place.migrate() == (0, [], "")
    assert place.sql("SELECT stuff FROM steps.Stuff") == [("kept",)]
    check_equal(place, "in a database of 1.0.0")


def test_an_application_s_own_migrations_and_tables_of_1_0_0_go_on(place: Place) -> None:
    note = "CREATE TABLE Note(nid INT PRIMARY KEY, pword TEXT, text TEXT);\n"
    note += "CREATE TRIGGER note_audit AFTER INSERT OR UPDATE ON Note FOR EACH ROW EXECUTE FUNCTION audit_change('nid');"
    for step in TRACKS[1][1:]:
        (place.folder / step).unlink()
    new = place.add(note, "note")
    checksum = hashlib.sha256(note.encode()).hexdigest()
    row = f"INSERT INTO Schema_Version(version, name, checksum) VALUES (2, 'note', '{checksum}')"
    place.psql("-f", "tests/schema-1.0.0.sql", "-f", str(place.folder / new), "-c", row)
    assert place.migrate() == (0, [step for step in LATER if step in TRACKS[0]], "")
    assert ("application", 2, "note", checksum) in place.versions()
    place.psql("-c", "INSERT INTO Note VALUES (1, '$', 'a')")
    assert place.sql("SELECT key, after::TEXT FROM steps.Audit") == [("1", '{"nid": 1, "text": "a"}')]


@pytest.mark.parametrize(("settings", "login"), [("engine", "calvin"), ("stuff", "hobbes"), ("shop", None)])
def test_the_trail_names_who_changes_by_this_release_and_by_1_0_0(migrated: Place, settings: str, login: str) -> None:
    said = f"SET application_name = 'stuff abc'; SET {settings}.login = '{login}'; SET {settings}.address = ''"
    migrated.psql("-c", said, "-c", "INSERT INTO Stuff(stuff) VALUES ('Lamp')")
    migrated.psql("-c", "SET application_name = ''", "-c", "INSERT INTO Stuff(stuff) VALUES ('Torch')")
    assert migrated.sql("SELECT login, address FROM steps.Audit ORDER BY aid") == [(login, None), (None, None)]


def test_a_difference_of_the_schema_names_the_table_and_the_column(migrated: Place) -> None:
    before = migrated.dump()
    migrated.psql("-c", "ALTER TABLE Stuff ADD COLUMN colour TEXT")
    assert parts(migrated.dump()) - parts(before) == {"CREATE TABLE here.stuff (  colour text"}


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    for track in TRACKS:
        assert [int(Path(step).name[:3]) for step in track] == list(range(1, len(track) + 1))


def test_what_was_sealed_before_the_order_of_transactions_stays_sealed(place: Place) -> None:
    rows = "INSERT INTO Stuff(stuff) VALUES ('a'), ('b'), ('c')"
    place.psql("-f", "tests/schema-1.0.0.sql", "-c", rows)
    place.psql("-c", "SELECT seal_audit(10)", "-o", "/dev/null")
    assert place.migrate()[0] == 0
    assert place.sql(
        "SELECT count(*), count(*) FILTER (WHERE s.xid = a.xid) FROM steps.Seal AS s JOIN steps.Audit AS a USING (aid)"
    ) == [(3, 3)]


def test_pending_ones_are_named_and_nothing_is_done(place: Place) -> None:
    assert place.migrate("--pending") == (0, STEPS, "")
    assert place.sql("SELECT FROM pg_class WHERE relnamespace = 'steps'::regnamespace") == []


def test_a_dry_run_does_it_all_and_undoes_it(migrated: Place) -> None:
    before, new = migrated.dump(), migrated.add("CREATE TABLE More(x INT);")
    assert migrated.migrate("--dry-run") == (0, [new], "")
    assert migrated.dump() == before
    migrated.add("CREATE TABLE Again(x INT) WITH (nonsense = 1);", "bad")
    status, _, why = migrated.migrate("--dry-run")
    assert status != 0
    assert f"{LAST + 2:03d}-bad.sql" in why
    assert migrated.dump() == before


def test_a_migration_that_fails_is_undone_and_those_before_it_stay(migrated: Place) -> None:
    migrated.add("CREATE TABLE Fine(x INT);", "fine")
    migrated.add("CREATE TABLE Half(x INT);\nSELECT 1 / 0;", "half")
    status, _, why = migrated.migrate()
    assert status != 0
    assert "division by zero" in why
    assert [row[1] for row in migrated.versions() if row[0] == "application"] == list(range(1, LAST + 2))
    assert migrated.sql("SELECT to_regclass('steps.fine') IS NULL, to_regclass('steps.half') IS NULL") == [(False, True)]


def test_a_migration_that_changed_after_it_was_applied_is_refused(migrated: Place) -> None:
    (migrated.folder / STEPS[-1]).write_text("SELECT 1;\n")
    new = migrated.add("CREATE TABLE More(x INT);")
    status, named, why = migrated.migrate()
    assert (status != 0, named) == (True, [])
    assert "is not what was applied" in why
    assert new not in why


@pytest.mark.parametrize("text", ["COMMIT;", "begin ;", "  Rollback;", "START TRANSACTION;", "COMMIT WORK;"])
def test_a_migration_that_ends_its_transaction_is_refused(migrated: Place, text: str) -> None:
    migrated.add(f"CREATE TABLE More(x INT);\n{text}")
    for mode in ([], ["--dry-run"]):
        status, _, why = migrated.migrate(*mode)
        assert status != 0
        assert "neither begins nor ends" in why
    assert migrated.sql("SELECT to_regclass('steps.more')") == [(None,)]


def test_a_lock_that_is_not_had_is_not_waited_for_long(migrated: Place) -> None:
    migrated.add("ALTER TABLE Stuff ADD COLUMN more TEXT;")
    with psycopg.connect() as other:
        other.execute("LOCK TABLE steps.Stuff IN ACCESS SHARE MODE")
        for mode in ([], ["--dry-run"]):
            status, _, why = migrated.migrate(*mode)
            assert status != 0
            assert "lock timeout" in why
    assert len(migrated.versions()) == len(STEPS)
    assert migrated.migrate()[0] == 0


def test_of_two_at_once_one_does_it(place: Place) -> None:
    place.env["LOCK_TIMEOUT"] = "10s"
    new = place.add("CREATE TABLE More(x INT);\nSELECT FROM pg_sleep(0.2);")
    runs = [place.start(), place.start()]
    results = [(run.communicate(), run.returncode) for run in runs]
    assert [status for _, status in results] == [0, 0], results
    assert sorted("".join(out for (out, _), _ in results).splitlines()) == sorted([*STEPS, new])


def test_make_run_migrates_a_local_instance_and_no_other(place: Place, monkeypatch: Any, tmp_path: Path) -> None:
    from engine import embedded

    def load(local: bool, reset: bool = False) -> None:
        config.write_text(f"LOCAL = {local}\n")
        with psycopg.connect(options=place.env["PGOPTIONS"]) as link:
            embedded.load(link, place.env, reset)

    config = tmp_path / "some.conf"
    monkeypatch.setenv("APP_CONFIG", str(config))
    monkeypatch.setattr(embedded, "ROOT", tmp_path)
    place.psql(*CREATE, "-c", "INSERT INTO Stuff(stuff) VALUES ('kept')")
    new = place.add("CREATE TABLE More(x INT);")
    state = "SELECT to_regclass('steps.more')::TEXT, stuff FROM steps.Stuff"
    load(local=False)
    assert place.sql(state) == [(None, "kept")]
    with pytest.raises(SystemExit, match="no local instance"):
        load(local=False, reset=True)
    load(local=True)
    assert place.sql(state) == [("steps.more", "kept")]
    (place.folder / new).write_text("CREATE TABLE Changed(x INT);\n")
    with pytest.raises(
        SystemExit, match=rf"a migration failed: .*; `make db.reset APP_DB={place.env['PGDATABASE']}` starts that"
    ):
        load(local=True)


def test_an_unknown_option_shows_the_help(place: Place) -> None:
    status, lines, _ = place.migrate("--help")
    assert status == 2
    assert lines[0].startswith("Bring a database to the schema")
