"""Users by file: lines in, rows for COPY out, and of what is refused where it stands, not what it is."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import pytest
from conftest import HERE

import pass2csv

pytestmark = pytest.mark.internal  # of a command of this clone, no matter which server is tested


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on files that hold these lines: its exit status, the rows, what it complained of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BCRYPT_COST", "4")

    def run(*contents: bytes) -> tuple[int, list[list[str]], list[str]]:
        for number, content in enumerate(contents):
            Path(f"users{number}").write_bytes(content)
        monkeypatch.setattr(sys, "argv", ["pass2csv.py", *(f"users{number}" for number in range(len(contents)))])
        status = pass2csv.main()
        out, err = capsys.readouterr()
        return status, list(csv.reader(io.StringIO(out))), err.splitlines()

    return run


@pytest.mark.parametrize(
    ("line", "login", "password", "extra"),
    [
        (b"calvin hobbes TRUE", "calvin", b"hobbes", ["TRUE"]),
        (b"calvin hobbes", "calvin", b"hobbes", []),
        (b" \tcalvin \t hobbes \t TRUE , 42,, last one \r\n", "calvin", b"hobbes", ["TRUE", "42", "", "last one"]),
        (b'o"brien,jr p,"w', 'o"brien,jr', b'p,"w', []),
        ("zoë 密码✓".encode(), "zoë", "密码✓".encode(), []),
        (b"calvin " + b"x" * 72, "calvin", b"x" * 72, []),
        ("non\u00a0breaking pw".encode(), "non\u00a0breaking", b"pw", []),
        (b"calvin #hash", "calvin", b"#hash", []),
    ],
)
def test_a_line_becomes_a_row_with_the_password_hashed(
    convert: Any, line: bytes, login: str, password: bytes, extra: list[str]
) -> None:
    status, rows, complaints = convert(line)
    assert (status, complaints) == (0, [])
    ((found, hashed, *columns),) = rows
    assert (found, columns) == (login, extra)
    assert hashed.startswith("$2b$04$")
    assert bcrypt.checkpw(password, hashed.encode())


def test_comments_and_empty_lines_are_skipped_and_files_follow_each_other(convert: Any) -> None:
    status, rows, _ = convert(b"# users\n\n  \t\n  # more\nann a1\n", b"", b"bob b2")
    assert status == 0
    assert [row[0] for row in rows] == ["ann", "bob"]


def test_the_same_password_is_hashed_differently_each_time(convert: Any) -> None:
    _, rows, _ = convert(b"ann same\nbob same\n")
    assert rows[0][1] != rows[1][1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"secret", "no password"),
        (b"ann secret" + b"x" * 67, "password over 72 bytes, where bcrypt ends"),
        (b"ann secret" + "é".encode() * 34, "password over 72 bytes, where bcrypt ends"),
        (b"ann sec\0ret", "NUL character"),
        (b"ann secret\xff", "not UTF-8"),
        (b"secret\xff pw", "not UTF-8"),
        (b"ann pw secret\xff", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_by_its_place_and_the_others_are_told_too(convert: Any, line: bytes, why: str) -> None:
    status, rows, complaints = convert(b"ann a1\n" + line + b"\nbob b2\n", b"worse\n")
    assert status == 1
    assert [row[0] for row in rows] == ["ann", "bob"]
    assert complaints == [f"users0:2: {why}", "users1:1: no password"]


def test_the_rows_are_ready_for_copy(convert: Any) -> None:
    _, rows, _ = convert('o"brien,jr pw TRUE\nzoë pw FALSE\n'.encode())
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with psycopg.connect() as connection:
        connection.execute("CREATE TEMPORARY TABLE Users(login TEXT, pword TEXT, isAdmin BOOL)")
        with connection.cursor().copy("COPY Users FROM STDIN (FORMAT csv)") as copy:
            copy.write(text.getvalue())
        found = connection.execute("SELECT login, pword, isAdmin FROM Users").fetchall()
    assert found == [('o"brien,jr', rows[0][1], True), ("zoë", rows[1][1], False)]


def command(*args: str, stdin: bytes = b"") -> Any:
    return subprocess.run([sys.executable, "pass2csv.py", *args], cwd=HERE, input=stdin, capture_output=True)


def test_as_a_command_it_reads_the_standard_input() -> None:
    done = command("--cost", "5", stdin=b"ann a1 x\n")
    assert (done.returncode, done.stderr) == (0, b"")
    login, hashed, extra = done.stdout.decode().strip().split(",")
    assert (login, hashed[:7], extra) == ("ann", "$2b$05$", "x")


def test_as_a_command_it_says_which_file_is_missing() -> None:
    done = command("nowhere.in")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().startswith("pass2csv.py: ")
    assert b"nowhere.in" in done.stderr
    assert b"Traceback" not in done.stderr
