"""What statements cost as tables grow, from 10^3 to 10^7 rows; `make bench` runs it on its database.

Times are of the statement alone, prepared, as the server sends it. Writes bench/plans/ (EXPLAIN of each, at the last size),
which a test reads for scans where an index should serve, and the plot of docs/performance.md.

usage: make bench MOST=1000000 (rows); it empties its database, hence runs on no other
"""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import plot
import psycopg

ROOT = Path(__file__).parent.parent
DATABASE = "stuff_growth"  # that of make bench
USERS = 100_000
# what is asked: the query's name, and its parameters for a table of so many rows
ANY = {"sort": "sid", "number": None, "text": None, "size": 100}
OPERATIONS: dict[str, tuple[str, Any]] = {
    "row by key": ("get_stuff_sid", lambda n: {"sid": n // 2}),
    "page 1": ("list_stuff_sid", lambda n: {"after": None, "size": 100}),
    "page in the middle": ("list_stuff_sid", lambda n: {"after": n // 2, "size": 100}),
    "page by text": ("list_stuff_stuff", lambda n: {"after": f"thing {n // 2:08d}", "size": 100}),
    "filter by prefix": ("search_stuff", lambda n: ANY | {"filter": f"thing {n // 200:06d}%", "sort": "stuff"}),
    "filter in the middle": ("search_stuff", lambda n: ANY | {"filter": "%no such thing%"}),
    "insert": ("add_stuff", lambda n: {"stuff": f"new {time.time_ns()}"}),
    "owner's list": ("list_owned_uid", lambda n: {"uid": USERS // 2, "after": None, "size": 100}),
}
REPLANNED = {"search_stuff"}  # never prepared: only a known pattern can use the index
FILL = """
INSERT INTO Stuff(stuff) SELECT 'thing ' || to_char(i, 'FM00000000') FROM generate_series(%(low)s + 1, %(high)s) AS i;
INSERT INTO Owned(object, owner) SELECT 'object ' || i, 1 + i %% %(users)s FROM generate_series(%(low)s + 1, %(high)s) AS i;
"""


def statements() -> dict[str, str]:
    """The queries by name, with parameters as psycopg wants them."""
    text = (ROOT / "queries.sql").read_text()
    found = dict(re.findall(r"^-- name: (\w+).*\n((?:(?!^-- name:).*\n?)+)", text, re.MULTILINE))
    return {
        name: re.sub(r"(?<!:):(\w+)", r"%(\1)s", re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE).replace("%", "%%"))
        for name, sql in found.items()
    }


def measure(link: "psycopg.Connection[Any]", sql: str, values: Callable[[], dict[str, Any]], prepare: bool) -> float:
    """Median milliseconds of some runs, a few seconds at most."""
    times: list[float] = []
    end = time.perf_counter() + 3
    while len(times) < 5 or (len(times) < 101 and time.perf_counter() < end):
        begin = time.perf_counter()
        link.execute(sql, values(), prepare=prepare).fetchall()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def explain(link: "psycopg.Connection[Any]", sql: str, values: dict[str, Any]) -> str:
    """The plan that is used."""
    return "\n".join(line for (line,) in link.execute("EXPLAIN (COSTS OFF) " + sql, values).fetchall()) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=1_000_000)
    most, queries, rows = options.parse_args().most, statements(), 0
    lines: plot.Lines = {name: [] for name in OPERATIONS}
    with psycopg.connect(autocommit=True) as link:
        if link.info.dbname != DATABASE:
            sys.exit(f"refusing to empty the database {link.info.dbname!r}: see make bench")
        # the trail of millions of rows is not what is measured, nor the first users' keys
        link.execute("SET session_replication_role = replica; TRUNCATE Stuff, Owned, Utilisateur RESTART IDENTITY")
        link.execute("INSERT INTO Utilisateur(login, pword) SELECT 'user' || i, '$' FROM generate_series(1, %s) AS i", [USERS])
        for size in (10**power for power in range(3, 8) if 10**power <= most):
            link.execute("SET session_replication_role = replica")
            with psycopg.ClientCursor(link) as cursor:
                cursor.execute(FILL, {"low": rows, "high": size, "users": USERS})
            link.execute("SET session_replication_role = origin")
            link.execute("VACUUM ANALYZE")
            rows = size
            for name, (query, values) in OPERATIONS.items():
                took = measure(link, queries[query], partial(values, size), query not in REPLANNED)
                lines[name].append((size, took))
                print(f"{size:>9} rows  {name:22}{took:10.3f} ms", flush=True)
        for name, (query, values) in OPERATIONS.items():
            file = ROOT / "bench" / "plans" / (re.sub(r"\W+", "-", name) + ".txt")
            with psycopg.connect(
                autocommit=True, cursor_factory=psycopg.ClientCursor
            ) as plain:  # values in the text: they are planned for
                file.write_text(explain(plain, queries[query], values(rows)))
        link.execute("TRUNCATE Stuff, Owned RESTART IDENTITY")
    chart = ("Time of a statement as tables grow", "rows", "milliseconds", lines, True)
    plot.draw(ROOT / "docs" / "performance-growth.svg", [chart])


if __name__ == "__main__":
    main()
