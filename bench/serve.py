"""Throughput and latency of this server over HTTP, for workers, threads and connections; `make bench` runs it on its database.

Figures of one machine, taken in one go: only their ratios mean something elsewhere. Prints them, and draws the plot that
docs/performance.md shows.

usage: make bench SECONDS=2 (for each figure); it empties its database, hence runs on no other
"""

import argparse
import base64
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import drive
import plot
import psycopg

ROOT = Path(__file__).parent.parent
DATABASE = "stuff_load"  # that of make bench
BIN = Path(sys.executable).parent
SERVERS = {
    "granian": "granian --interface wsgi --http 1 --no-ws --host 127.0.0.1 --port {port} --workers {workers}"
    " --blocking-threads {threads} --log-level error app:app",
    "gunicorn": "gunicorn --bind 127.0.0.1:{port} --workers {workers} --threads {threads} --worker-class gthread"
    " --log-level error app:app",  # measured where it is installed
}
CONNECTIONS = (1, 4, 16, 64, 256)
SHAPES = ((1, 4), (2, 2), (2, 4), (4, 4))  # workers, and threads each
FILL = """
TRUNCATE Stuff, Owned RESTART IDENTITY;
INSERT INTO Stuff(stuff) SELECT 'thing ' || to_char(i, 'FM0000') FROM generate_series(1, 100) AS i;
INSERT INTO Owned(object, owner) SELECT 'object ' || i, 1 FROM generate_series(1, 20) AS i;
"""


@contextmanager
def serving(server: str, workers: int, threads: int) -> Iterator[tuple[int, float]]:
    """A server on a free port: the port, and the seconds until it was ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = SERVERS[server].format(port=port, workers=workers, threads=threads).split()
    begin = time.perf_counter()
    process = subprocess.Popen([BIN / command[0], *command[1:]], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() > begin + 30:
                    raise
                time.sleep(0.01)
        yield port, time.perf_counter() - begin
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def memory(port: int) -> list[float]:
    """Resident memory of the processes that serve a port, in MiB."""
    owners = subprocess.run(["pgrep", "-f", f"port {port} |127.0.0.1:{port} "], capture_output=True, text=True).stdout.split()
    pages = [int(Path(f"/proc/{owner}/statm").read_text().split()[1]) for owner in owners]
    return [round(count * os.sysconf("SC_PAGE_SIZE") / 2**20, 1) for count in pages]


def requests(port: int) -> dict[str, Iterator[bytes]]:
    """What is asked: a row by its key, a list of 100, an insert, an owner's list with a token."""
    basic = base64.b64encode(b"calvin:hobbes").decode()
    login = urllib.request.Request(f"http://127.0.0.1:{port}/login", headers={"Authorization": f"Basic {basic}"})
    token = json.loads(urllib.request.urlopen(login, timeout=30).read())

    def get(path: str, header: str = "") -> Iterator[bytes]:
        return itertools.repeat(f"GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n".encode())

    def post() -> Iterator[bytes]:
        for number in itertools.count():
            body = f'{{"stuff": "{time.time()} {number}"}}'
            head = f"POST /stuff HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            yield f"{head}\r\n\r\n{body}".encode()

    return {
        "one": get("/stuff/1"),
        "list": get("/stuff"),
        "owned": get("/owned/1", f"Authorization: Bearer {token}\r\n"),
        "insert": post(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=2.0)
    seconds = options.parse_args().seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server is stopped on the way out
    found = []
    with psycopg.connect(autocommit=True) as database:
        if database.info.dbname != DATABASE:
            sys.exit(f"refusing to empty the database {database.info.dbname!r}: see make bench")
        for server in (name for name, command in SERVERS.items() if shutil.which(BIN / command.split()[0])):
            for workers, threads in SHAPES:
                database.execute(FILL)
                with serving(server, workers, threads) as (port, ready):
                    asked = requests(port)
                    for connections in CONNECTIONS:
                        for name, stream in asked.items():
                            drive.run(port, stream, connections, seconds / 4)  # to warm up
                            outcome = drive.run(port, stream, connections, seconds)
                            found.append(
                                {
                                    "server": server,
                                    "workers": workers,
                                    "threads": threads,
                                    "connections": connections,
                                    "request": name,
                                    "rate": round(outcome.rate),
                                    "p50": round(outcome.quantile(0.5), 2),
                                    "p99": round(outcome.quantile(0.99), 2),
                                    "bad": outcome.bad,
                                }
                            )
                            print(*found[-1].values(), sep="\t", flush=True)
                            if name == "insert":
                                database.execute("DELETE FROM Stuff WHERE sid > 100")
                                database.execute("VACUUM Stuff")
                    print(f"{server} {workers}x{threads}: ready in {ready:.2f} s, memory {memory(port)} MiB", flush=True)
    shown = [row for row in found if row["server"] == "granian"]
    charts = []
    for name in ("one", "insert"):
        lines: plot.Lines = {}
        for row in shown:
            if row["request"] == name:
                line = lines.setdefault(f"{row['workers']} x {row['threads']}", [])
                line.append((float(str(row["connections"])), float(str(row["rate"]))))
        title = {"one": "GET /stuff/1", "insert": "POST /stuff"}[name] + ": workers x threads"
        charts.append((title, "connections", "requests a second", lines, False))
    plot.draw(ROOT / "docs" / "performance-load.svg", charts)


if __name__ == "__main__":
    main()
