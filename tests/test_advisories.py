"""`make advisories`: known faults of what is locked are found in a file, and no file is no clean bill."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE

pytestmark = pytest.mark.internal


def look(*files: Path) -> tuple[int, str]:
    """The end and the output of the command."""
    command = [sys.executable, "tests/ops/advisories.py", *map(str, files)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def about(**affected: Any) -> dict[str, Any]:
    """An advisory about a locked package, Werkzeug of 3.1.9 or later."""
    package = {"package": {"ecosystem": "PyPI", "name": "Werkzeug"}}
    return {"id": "X-1", "modified": "2026-11-20T00:00:00Z", "summary": "it leaks", "affected": [package | affected]}


def events(*found: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(found)}]}


@pytest.mark.parametrize(
    ("affected", "applies"),
    [
        (events({"introduced": "0"}), True),
        (events({"introduced": "0"}, {"fixed": "3.0.6"}), False),
        (events({"introduced": "0"}, {"fixed": "3.0.6"}, {"introduced": "3.1"}, {"fixed": "99"}), True),
        (events({"introduced": "0"}, {"last_affected": "3.0"}), False),
        (events({"introduced": "99"}), False),
        (events({"introduced": "not a version"}), True),
        ({"versions": ["3.0.6"]}, False),
        ({"package": {"ecosystem": "npm", "name": "werkzeug"}} | events({"introduced": "0"}), False),
        ({"package": {"ecosystem": "PyPI", "name": "django"}} | events({"introduced": "0"}), False),
    ],
)
def test_a_known_fault_of_a_locked_version_is_named(tmp_path: Path, affected: dict[str, Any], applies: bool) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(about(**affected)))
    ended, said = look(file)
    assert ended == applies, said
    assert ("X-1 it leaks" in said) is applies
    assert "1 advisories, the newest of 2026-11-20T00:00:00Z" in said


def test_advisories_come_as_a_zip_a_folder_or_a_list_and_what_is_withdrawn_is_left_out(tmp_path: Path) -> None:
    one, gone = about(**events({"introduced": "0"})), about(**events({"introduced": "0"})) | {"withdrawn": "2026-11-21"}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("X-1.json", json.dumps(one))
        archive.writestr("X-2.json", json.dumps(gone))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "all.json").write_text(json.dumps({"vulns": [one, gone]}))
    for path in (tmp_path / "all.zip", tmp_path / "folder"):
        ended, said = look(path)
        assert ended == 1
        assert "1 advisories" in said


def test_it_says_that_it_could_not_look(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "other.json").write_text('{"id": "X-1", "affected": [5]}')
    for files in ((), (tmp_path / "none",), (HERE / "README.md",), (tmp_path / "empty.json",), (tmp_path / "other.json",)):
        ended, said = look(*files)
        assert ended == 2, said
        assert said.startswith("could not look: ")
