"""More than the server can take, and clients that do not behave: `make check.overload`.

Two processes of four threads, and: 150 clients at once; clients that send half a body, or nothing, and stay; clients that ask
and vanish; a search made to be slow. Meanwhile who reads must be answered 200, and afterwards everything must be well again; a
write alone may be told 503 with Retry-After: its body was not read (docs/decisions/053-overload.md).
"""

import http.client
import json
import os
import resource
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable

from cluster import Answer, Cluster, Load, ask, serving, summary, wait, workplace

HALF = b"POST /stuff HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + b'{"stuff": "'
ROWS = int(os.environ.get("ROWS", "2000000"))  # that are searched


def well(port: int, seconds: float = 2.0) -> list[Answer]:
    """What a well-behaved client gets."""
    link, answers, until = http.client.HTTPConnection("127.0.0.1", port, timeout=30), list[Answer](), time.monotonic() + seconds
    while time.monotonic() < until:
        answers.append(ask(link, "GET", ""))
        time.sleep(0.02)
    link.close()
    return answers


def report(name: str, answers: list[Answer]) -> list[str]:
    took = [answer.took for answer in answers]
    print(f"{name}: {summary(answers)}; median {1000 * statistics.median(took):.1f} ms, slowest {1000 * max(took):.0f} ms")
    wrong = [a for a in answers if a.status not in (200, 201) and not (a.method == "POST" and a.status == 503 and a.retry)]
    slow = [f"{name}: {max(took):.1f} s"] if max(took) > 5 else []
    return slow + ([f"{name}: {summary(wrong)}"] if wrong else [])


def holding(port: int, sent: bytes, count: int) -> Callable[[], None]:
    """Connections that sent something and stay; what closes them."""
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for one in held:
        one.sendall(sent)

    def close() -> None:
        for one in held:
            one.close()

    return close


def vanish(port: int, path: str, count: int) -> None:
    """Ask for something that takes long, and go."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def search(port: int) -> tuple[int, str, float]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.monotonic()
    link.request("GET", "/stuff?filter=%25" + "_%25" * 40 + "nothing&sort=-stuff", headers={"X-Request-Id": "attack"})
    answer = link.getresponse()
    body = json.loads(answer.read())
    link.close()
    return answer.status, body["code"] if answer.status != 200 else "", time.monotonic() - began


def main() -> None:
    faults = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with workplace() as folder:
        cluster = Cluster(folder, nodes=1)
        try:
            node = cluster.primary
            node.sql("CREATE DATABASE stuff_test")
            with serving(folder, cluster.url(), DATABASE_READ_TIMEOUT=0.3, DATABASE_SLOW=0.1) as port:
                faults += report("alone", well(port))
                with Load(port, clients=150, pause=0) as load:
                    time.sleep(3)
                faults += report("150 clients on 8 threads", load.answers)
                faults += report("afterwards", well(port, 1))
                for name, sent, count in (("half a body", HALF, 60), ("half a line", b"GET /stu", 60), ("nothing", b"", 2600)):
                    close = holding(port, sent, count)
                    faults += report(f"beside {count} clients that sent {name}", well(port))
                    close()
                    faults += report("afterwards", well(port, 1))
                node.sql(
                    f"INSERT INTO Stuff(stuff) SELECT 'row ' || i FROM generate_series(1, {ROWS}) AS i", dbname="stuff_test"
                )
                status, code, took = search(port)
                print(f"LIKE over {ROWS} rows: {status} {code} after {took:.2f} s")
                log = (folder / f"{port}.log").read_text()
                if status != 504 or "slow query search_stuff" not in log:
                    faults.append(f"the search was answered {status}, its name is logged: {'search_stuff' in log}")
                path = "/stuff?filter=%25" + "_%25" * 40 + "nothing"
                threading.Thread(target=vanish, args=[port, path, 20]).start()
                faults += report("beside 20 clients that asked for it and vanished", well(port, 8))
                faults += report("afterwards", well(port, 1))
                busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'stuff_test' AND state <> 'idle'"
                wait("an idle database", lambda: node.sql(busy) == [(0,)])
        finally:
            cluster.stop()
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
