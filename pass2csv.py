#!/usr/bin/env python3
"""Turn lines `login password [extra columns separated by commas]` into CSV rows for COPY, passwords hashed.

Fields are parted by blanks; empty lines and lines that start with # are skipped. In psql, for instance:
    \\copy Utilisateur(login, pword, isAdmin) FROM PROGRAM './pass2csv.py users.in' WITH (FORMAT csv)
"""

import argparse
import csv
import fileinput
import os
import sys

import bcrypt


def row(line: bytes, cost: int) -> list[str]:
    """The CSV row of a line. ValueError says what is wrong, without a word of the line."""
    login, password, extra = [*line.split(maxsplit=2), b"", b""][:3]  # of bytes: at ASCII blanks only
    if not password:
        raise ValueError("no password")
    if len(password) > 72:
        raise ValueError("password over 72 bytes, where bcrypt ends")
    if b"\0" in line:
        raise ValueError("NUL character")
    try:
        login_text, columns = login.decode(), extra.decode().split(",") if extra else []
        password.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None  # its message would show bytes of the password
    return [login_text, bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode(), *map(str.strip, columns)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cost = os.environ.get("BCRYPT_COST", "12")
    parser.add_argument("--cost", type=int, default=cost, help="of bcrypt, 4 to 31; by default %(default)s")
    parser.add_argument("file", nargs="*", help="by default the standard input")
    args = parser.parse_args()
    out = csv.writer(sys.stdout, lineterminator="\n")
    bad = 0
    with fileinput.input(args.file, mode="rb") as lines:
        for line in lines:
            try:
                if line.strip() and not line.lstrip().startswith(b"#"):
                    out.writerow(row(line, args.cost))
            except ValueError as error:  # go on: all bad lines are told at once
                print(f"{lines.filename()}:{lines.filelineno()}: {error}", file=sys.stderr)
                bad = 1
    return bad


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"pass2csv.py: {error}")
