"""Hours of mixed load in which something is killed every minute: `make soak MINUTES=60`.

Writers and readers work at a low rate while in turn a worker of the server, the connections to the database, and the database
itself are killed. At the end: what was answered, 5xx by cause, writes acknowledged and lost (must be 0), connections left in a
transaction (must be 0), memory of each process.
"""

import http.client
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from cluster import Answer, Cluster, Load, Node, serving, wait, workplace

KEY = "a key that the scraper has"


def workers(main: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]


def memory(pids: list[int]) -> dict[int, float]:
    """Resident memory of processes, in megabytes; of those that live."""
    found = {}
    for pid in pids:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
        found[pid] = round(pages * os.sysconf("SC_PAGESIZE") / 1e6, 1)
    return found


def kill_worker(_: Node, main: int) -> None:
    os.kill(workers(main)[-1], signal.SIGKILL)


def kill_connections(node: Node, _: int) -> None:
    node.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'stuff_test'")


def kill_database(node: Node, _: int) -> None:
    node.signal(signal.SIGKILL)
    time.sleep(1)
    node.start()


KILLS = (kill_worker, kill_connections, kill_database)


def main() -> None:
    minutes, pause = float(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.3
    counts: Counter[str] = Counter()
    with workplace() as folder:
        cluster = Cluster(folder, nodes=1)
        try:
            node = cluster.primary
            node.sql("CREATE DATABASE stuff_test")
            with serving(folder, cluster.url(), METRICS_KEY=KEY) as port:
                main_pid = int((folder / f"{port}.pid").read_text())
                start, first = memory(workers(main_pid)), time.monotonic()
                kept: set[str] = set()
                slowest = 0.0
                with Load(port, clients=6, pause=pause) as load:
                    number = 0
                    while time.monotonic() < first + 60 * minutes:
                        time.sleep(min(60.0, 60 * minutes / 6))
                        kill = KILLS[number % 3]
                        kill(node, main_pid)
                        number += 1
                        done, load.answers = load.answers, []
                        note(done, counts)
                        kept |= {a.text for a in done if a.method == "POST" and a.status == 201}
                        slowest = max([slowest, *(a.took for a in done)])
                        print(f"{time.strftime('%H:%M:%S')} {kill.__name__}: {sum(counts.values())} requests, "
                              f"memory {memory(workers(main_pid))} MB", flush=True)  # fmt: skip
                    time.sleep(5)
                note(load.answers, counts)
                kept |= load.acknowledged()
                pids = workers(main_pid)
                state = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = 'stuff_test' AND state LIKE 'idle in transaction%'"
                )
                wait("no connection in a transaction", lambda: node.sql(state) == [(0,)])
                last = [load_one(port) for _ in range(20)]
                lost = kept - node.stored()
                end, causes = memory(pids), logged(folder / f"{port}.log")
        finally:
            cluster.stop()
    print(f"{minutes} minutes, {number} kills; requests: " + ", ".join(f"{v} x {k}" for k, v in sorted(counts.items())))
    print(f"acknowledged writes {len(kept)}, lost {len(lost)}; slowest request {slowest:.2f} s; idle in transaction 0")
    print(f"memory of the workers at the start {start} MB, at the end {end} MB; 5xx by cause: {dict(causes)}")
    bad = {name for name in counts if not re.match("(GET 200|POST 201|GET 503|POST 503|(GET|POST) 0)", name)}
    if lost or not kept or bad or last != [200] * 20:
        sys.exit(f"lost {len(lost)} of {len(kept)}, unexpected {bad}, at the end {last}")


def note(answers: list[Answer], counts: "Counter[str]") -> None:
    for a in answers:
        counts[f"{a.method} {a.status} {a.code.partition('(')[0]}".strip()] += 1


def load_one(port: int) -> int:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("GET", "/stuff/1")
    status = link.getresponse().status
    link.close()
    return status


def logged(path: Path) -> "Counter[str]":
    """What the server logged as errors, without its values."""
    causes: Counter[str] = Counter()
    for text in path.read_text().splitlines():
        if text.startswith("{"):
            line = json.loads(text)
            if line["level"] == "ERROR":
                causes[line["message"].partition("\n")[0][:60]] += 1
    return causes


if __name__ == "__main__":
    main()
