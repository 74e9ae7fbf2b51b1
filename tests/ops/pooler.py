"""The server through pgbouncer in transaction pooling, many clients on two connections: `make check.pooler`.

Errors are not enough to look for: behind an old pgbouncer a statement that one client prepared answers for another's, silently.
So each client knows what it has stored and compares every answer. The control runs with DATABASE_POOLER = False, must be wrong.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster import Cluster, Node, at_once, free_port, serving, workplace

CONFIG = """
[databases]
stuff_test = host=127.0.0.1 port={server} dbname=stuff_test user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = options
unix_socket_dir =
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""
SECONDS = 5


def pooler(folder: Path, node: Node) -> "tuple[subprocess.Popen[bytes], int]":
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        sys.exit("pgbouncer is needed (Debian: apt install pgbouncer)")
    print(subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0])
    port = free_port()
    (folder / "pgbouncer.ini").write_text(CONFIG.format(server=node.port, port=port, folder=folder))
    process = subprocess.Popen([program, "-q", folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL, **node.run)
    return process, port


def client(port: int, number: int, until: float, counts: "Counter[str]") -> None:
    """Store, find, change and remove what is this client's own, and count what is not as it must be."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(method: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
        counts["requests"] += 1
        try:
            data = None if body is None else json.dumps(body)
            link.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = link.getresponse()
            text = response.read()
            counts[f"status {response.status}"] += 1
            return response.status, json.loads(text) if text else None, response.getheader("ETag")
        except (OSError, http.client.HTTPException) as error:
            counts[f"error {type(error).__name__}"] += 1
            link.close()
            return 0, None, None

    def check(what: str, found: Any, expected: Any) -> None:
        counts["compared"] += 1
        if found != expected:
            counts[f"WRONG {what}"] += 1

    turn = 0
    while time.monotonic() < until:
        turn += 1
        name = f"{number}.{turn}"
        status, body, _ = ask("POST", "/stuff", {"stuff": name})
        if status != 201:
            counts["WRONG create"] += 1
            continue
        sid = body["sid"]
        check("read", ask("GET", f"/stuff/{sid}"), (200, {"sid": sid, "stuff": name}, '"1"'))
        check("search", ask("GET", f"/stuff?filter={quote(name)}")[:2], (200, [{"sid": sid, "stuff": name}]))
        check("change", ask("PUT", f"/stuff/{sid}", {"stuff": name + "!"})[0], 204)
        check("read again", ask("GET", f"/stuff/{sid}"), (200, {"sid": sid, "stuff": name + "!"}, '"2"'))
        check("duplicate", ask("POST", "/stuff", {"stuff": name + "!"})[0], 409)
        check("list", ask("GET", f"/stuff?limit=1&sort=sid&filter={quote(name)}%25")[1], [{"sid": sid, "stuff": name + "!"}])
        check("remove", ask("DELETE", f"/stuff/{sid}")[0], 204)
        check("read no more", ask("GET", f"/stuff/{sid}")[0], 404)
    link.close()


def loop(port: int) -> "Counter[str]":
    counts: Counter[str] = Counter()
    until = time.monotonic() + SECONDS
    at_once(lambda number: client(port, number, until, counts), 12)
    return counts


def main() -> None:
    with workplace() as folder:
        cluster = Cluster(folder, nodes=1)
        process = None
        try:
            node = cluster.primary
            node.sql("CREATE DATABASE stuff_test")
            process, port = pooler(folder, node)
            url = f"host=127.0.0.1 port={port} user=postgres dbname=stuff_test"
            results = {}
            for pooled in (True, False):
                with serving(folder, url, DATABASE_POOLER=pooled) as server:
                    results[pooled] = loop(server)
                print(f"DATABASE_POOLER = {pooled}: " + ", ".join(f"{v} {k}" for k, v in sorted(results[pooled].items())))
            backends = node.sql("SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
                                " WHERE datname = 'stuff_test'")[0]  # fmt: skip
            print(f"connections to the database: {backends[0]}, not idle: {backends[1]}")
        finally:
            if process:
                process.kill()
                process.wait()
            cluster.stop()

    def bad(counts: "Counter[str]") -> int:
        return sum(count for name, count in counts.items() if name.startswith(("WRONG", "error", "status 5")))

    if bad(results[True]) or not results[True]["compared"] or backends[1]:
        sys.exit("wrong through the pooler")
    if not bad(results[False]):
        sys.exit("the control was right: this check sees no faults")


if __name__ == "__main__":
    main()
