"""Two hosts, each with a network of its own, behind HAProxy, the database on a third: `make check.hosts`.

The hosts are network namespaces, seen by nobody else, that go away with the processes in them. What must hold: the servers know
the same (tokens, log-outs, bad passwords, repeated requests); a rolling restart loses no request; of a host that is cut off
only the requests in flight there fail, and the database ends what it had begun; with the database cut off every answer is a 503
with Retry-After within a second, and within two seconds after that all is well again. And a list of hosts whose first takes
packets and never answers costs its head start, no more.
"""

import ctypes
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from cluster import TLS, Answer, Cluster, Load, Node, ask_once, basic, restart, serving, summary, wait, workplace
from psycopg.conninfo import conninfo_to_dict
from rolling import balancer, has, roll

from engine.db.connect import HEAD_START, connect

ADDRESSES = {"one": "192.0.2.11", "two": "192.0.2.12", "database": "192.0.2.21", "hole": "192.0.2.22"}
NET = "192.0.2.0/24"
PASSWORD = "a-password-of-this-check"
SECRET = "a token secret that both hosts were given"
PATIENCE = 0.9  # the default of DATABASE_TIMEOUT
BOUNDS = {"refused": 1.0, "answered": 4.0, "healed": 2.0, "noticed": 2.0, "ended": 25.0}  # seconds
OK = (200, 201, 204)


def isolate() -> None:
    """Go on in a network where nobody else is."""
    if os.geteuid():
        sys.exit("root is needed: the hosts are network namespaces")
    for name, package in {"ip": "iproute2", "unshare": "util-linux", "haproxy": "haproxy"}.items():
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            sys.exit(f"{name} is needed (Debian: apt install {package})")
    if sys.argv[1:] != ["isolated"]:
        os.makedirs("/run/netns", exist_ok=True)
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, __file__, "isolated"])  # noqa: S606
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    ip("link set lo up")
    ip("link add name switch type bridge")
    ip("link set switch up")
    ip("address add 192.0.2.1/24 dev switch")
    for name, address in ADDRESSES.items():
        ip(f"netns add {name}")
        ip(f"link add {name} type veth peer name eth0 netns {name}")
        ip(f"link set {name} master switch up")
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} address add {address}/24 dev eth0")
        ip(f"-n {name} link set eth0 up")


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def drop(host: str) -> None:
    """What a host sends is dropped, and nobody is told."""
    ip(f"-n {host} route replace blackhole {NET}")


def undrop(host: str) -> None:
    ip(f"-n {host} route replace {NET} dev eth0")


def link(host: str, state: str) -> None:
    ip(f"-n {host} link set eth0 {state}")


@contextmanager
def inside(host: str) -> Iterator[None]:
    """What this thread opens and starts is on a host."""
    libc, outside = ctypes.CDLL(None, use_errno=True), os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        if libc.setns(there, 0):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(outside, 0)
        os.close(there)
        os.close(outside)


def call(host: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """One request to one host: status and what was answered."""
    peer = http.client.HTTPConnection(ADDRESSES[host], 5000, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        peer.request(method, path, text, TLS | sent | ({"Content-Type": "application/json"} if text else {}))
        response = peer.getresponse()
        return response.status, json.loads(response.read() or "null")
    finally:
        peer.close()


def shared() -> list[str]:
    """What one server is told the other must know."""
    bearer = "Bearer " + call("one", "GET", "/login", Authorization=basic("hobbes", "susie"))[1]
    once = {"body": {"stuff": "Umbrella"}, "Idempotency_Key": "the-same", "Authorization": bearer}
    wrong = partial(call, method="GET", path="/whoami", Authorization=basic("susie", "wrong"))
    steps: dict[str, tuple[Any, Any]] = {
        "a token of one, at two": (call("two", "GET", "/whoami", Authorization=bearer), (200, "hobbes")),
        "a POST at one, repeated at two": (call("one", "POST", "/stuff", **once), call("two", "POST", "/stuff", **once)),
        "log-out at two": (call("two", "DELETE", "/login", Authorization=bearer)[0], 204),
        "the token after it, at one": (call("one", "GET", "/whoami", Authorization=bearer)[0], 401),
        "bad passwords at one": ([wrong("one")[0] for _ in range(3)], [401] * 3),
        "bad passwords at two": ([wrong("two")[0] for _ in range(2)], [401] * 2),
        "one too many at one": (wrong("one")[0], 429),
        "one too many at two": (wrong("two")[0], 429),
    }
    for what, (found, _) in steps.items():
        print(f"  {what}: {found}")
    return [f"{what}: {found}, not {expected}" for what, (found, expected) in steps.items() if found != expected]


def sessions(node: Node, host: str) -> list[str]:
    """What the database's sessions of a host are doing."""
    with inside("database"):
        return [row[0] for row in node.sql("SELECT state FROM pg_stat_activity WHERE client_addr = %s", ADDRESSES[host])]


def refusals(answers: list[Answer]) -> tuple[list[Answer], list[str]]:
    """What was refused, and what of that was refused in a way that must not be."""
    refused = [a for a in answers if a.status not in OK]
    wrong = [a for a in refused if a.status != 503 or not a.retry]
    return refused, [f"refused otherwise than by 503 with Retry-After: {summary(wrong)}"] if wrong else []


def rolling(folder: Path) -> list[str]:
    """Both servers restarted in turn."""

    def restarted(name: str) -> None:
        with inside(name):
            restart(name)

    with Load(80) as load:
        time.sleep(0.5)
        roll(folder, {name: partial(restarted, name) for name in ("one", "two")})
    print(f"  {summary(load.answers)}; slowest {max(a.took for a in load.answers):.2f} s")
    refused, _ = refusals(load.answers)
    return [f"not answered: {summary(refused)}"] if refused else []


def cut(folder: Path, node: Node) -> list[str]:
    """A host off the network: from clients, balancer and database alike."""
    with Load(80) as load:
        time.sleep(1)
        began = time.monotonic()
        link("two", "down")
        wait("two is out", partial(has, folder, "two", "status", "DOWN"))
        noticed = time.monotonic()
        left = sessions(node, "two")
        wait("the database ends what two had begun", lambda: not sessions(node, "two"), 60)
        ended = time.monotonic()
        link("two", "up")
        wait("two is back", partial(has, folder, "two", "status", "UP"))
        back = time.monotonic()
        time.sleep(2)
    own = [call("two", "GET", "/stuff/1")[0] for _ in range(50)]
    # on a connection that it kept, HAProxy tells an HTTP/1.1 client of the loss by closing it, whatever it asked
    refused = [a for a in load.answers if a.status not in OK]
    wrong = [a for a in refused if a.method == "GET" or not (a.retry or a.code.startswith("RemoteDisconnected"))]
    with inside("database"):
        lost = load.acknowledged() - node.stored()
    late = [a for a in load.since(noticed) if a.status not in OK]
    slowest = max(a.took for a in load.answers)
    print(
        f"  {summary(load.answers)}\n  out after {noticed - began:.2f} s; the database ended its {len(left)} sessions"
        f" ({left.count('idle in transaction')} in a transaction) after {ended - began:.1f} s; back {back - ended:.2f} s after"
        f" its link, then {own.count(200)} of {len(own)} well; slowest {slowest:.2f} s; acknowledged and lost {len(lost)}"
    )
    found = {
        f"{len(refused)} refused, of {load.clients} clients": len(refused) > load.clients,
        f"lost otherwise than by a 503 or a closed connection: {summary(wrong)}": bool(wrong),
        f"refused with the host out: {summary(late)}": bool(late),
        f"noticed after {noticed - began:.2f} s": noticed - began > BOUNDS["noticed"],
        f"a request took {slowest:.2f} s": slowest > BOUNDS["answered"],
        f"{len(lost)} acknowledged writes are lost": bool(lost),
        f"sessions of a host that is gone for {ended - began:.0f} s": ended - began > BOUNDS["ended"],
        f"not well at two, afterwards: {own}": own.count(200) < len(own),
    }
    return [fault for fault, is_ in found.items() if is_]


def outage(node: Node, block: Callable[[str], None], unblock: Callable[[str], None]) -> list[str]:
    """The database off the network for ten seconds, seen through the balancer and at a server itself."""
    faults = list[str]()
    loads = {"through HAProxy": Load(80, clients=6), "at one": Load(5000, clients=4, host=ADDRESSES["one"])}
    with ExitStack() as stack:
        for load in loads.values():
            stack.enter_context(load)
        time.sleep(1)
        began = time.monotonic()
        block("database")
        time.sleep(10)
        unblock("database")
        healed = time.monotonic()
        time.sleep(3)
    with inside("database"):
        kept = node.stored()
    for way, load in loads.items():
        refused, wrong = refusals(load.answers)
        lost = load.acknowledged() - kept
        slowest, longest = max(a.took for a in refused), max(a.took for a in load.answers)
        again = min((a.ended for a in load.answers if a.status == 201 and a.ended > healed), default=float("inf")) - healed
        late = [a for a in load.since(healed + BOUNDS["healed"]) if a.status not in OK]
        through = [a for a in load.answers if a.status in OK and a.began > began + BOUNDS["refused"] and a.ended < healed]
        print(
            f"  {way}: {summary(load.answers)}\n    slowest 503 {slowest:.2f} s, slowest request {longest:.2f} s; written"
            f" {again:.2f} s after; acknowledged and lost {len(lost)}"
        )
        found = {
            f"a 503 took {slowest:.2f} s": slowest > BOUNDS["refused"],
            f"a request took {longest:.2f} s": longest > BOUNDS["answered"],
            f"written {again:.2f} s after the outage": again > BOUNDS["healed"],
            f"refused {BOUNDS['healed']} s after the outage: {summary(late)}": bool(late),
            f"answered without a database: {summary(through)}": bool(through),
            f"{len(lost)} acknowledged writes are lost": bool(lost),
        }
        faults += [f"{way}: {fault}" for fault in wrong + [fault for fault, is_ in found.items() if is_]]
    return faults


def hole(folder: Path, url: str) -> list[str]:
    """A list of hosts whose first drops all packets: connecting to the second, and a server that has to."""
    drop("hole")
    url = url.replace("host=", f"host={ADDRESSES['hole']},").replace("port=", "port=5432,") + " connect_timeout=2"
    parameters = conninfo_to_dict(url)
    with inside("one"):
        ours = [timed(lambda: connect(time.monotonic() + PATIENCE / 2, **parameters).close()) for _ in range(20)]
        theirs = timed(lambda: psycopg.connect(url).close())
        with serving(folder, url, place=("0.0.0.0", 5001)) as port, Load(port) as load:
            time.sleep(2)
    refused, _ = refusals(load.answers)
    slowest = max(a.took for a in load.answers)
    print(
        f"  20 connections: median {1000 * statistics.median(ours):.0f} ms, slowest {1000 * max(ours):.0f} ms (psycopg's own:"
        f" {1000 * theirs:.0f} ms)\n  a server: {summary(load.answers)}; slowest {slowest:.2f} s"
    )
    found = {
        f"connecting took {max(ours):.2f} s": max(ours) > PATIENCE / 2,
        f"the first host answered: {min(ours):.3f} s": min(ours) < HEAD_START,
        f"not answered: {summary(refused)}": bool(refused),
        f"a request took {slowest:.2f} s": slowest > BOUNDS["refused"],
    }
    return [fault for fault, is_ in found.items() if is_]


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def prepare(folder: Path) -> tuple[Cluster, str]:
    """The database on its host, with a password: its connection string for the servers."""
    with inside("database"):
        cluster = Cluster(folder, nodes=1)
        node = cluster.primary
        node.sql(f"CREATE ROLE stuff LOGIN PASSWORD '{PASSWORD}'")
        node.sql("CREATE DATABASE stuff_test OWNER stuff")
        node.configure("listen_addresses = '*'\n")
        with (node.folder / "pg_hba.conf").open("a") as file:
            file.write(f"host stuff_test stuff {NET} scram-sha-256\n")
        node.command("pg_ctl", "-D", node.folder, "-l", f"{node.folder}.log", "-s", "-w", "restart")
    secret = folder / "pgpass"
    secret.touch(0o600)
    secret.write_text(f"*:*:*:stuff:{PASSWORD}\n")
    return cluster, f"host={ADDRESSES['database']} port={node.port} dbname=stuff_test user=stuff passfile={secret}"


def main() -> None:
    isolate()
    began, faults = time.monotonic(), list[str]()
    with workplace() as folder, ExitStack() as stack:
        cluster, url = prepare(folder)
        node = cluster.primary
        stack.callback(cluster.stop)
        for name in ("one", "two"):
            with inside(name):
                server = serving(folder, url, name=name, place=("0.0.0.0", 5000), TRUSTED_PROXIES=1, FSA_TOKEN_SECRET=SECRET)
                stack.enter_context(server)
        process = balancer(folder, {})
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait("the balancer", lambda: ask_once(80, "GET", "").status == 200)
        print(f"two hosts, a database and HAProxy after {time.monotonic() - began:.1f} s")
        cases: dict[str, Callable[[], list[str]]] = {
            "what one knows, the other knows": shared,
            "rolling restart": partial(rolling, folder),
            "a host is cut off": partial(cut, folder, node),
            "the database drops all packets": partial(outage, node, drop, undrop),
            "the database's link is down": partial(outage, node, partial(link, state="down"), partial(link, state="up")),
            "the first host of a list drops all packets": partial(hole, folder, url),
        }
        for name, case in cases.items():
            print(f"{name}:", flush=True)
            faults += [f"{name}: {fault}" for fault in case()]
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
