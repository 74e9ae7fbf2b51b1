"""Two servers on three nodes under Patroni and etcd, by the files of deploy/patroni: `make check.patroni`.

One server reaches the primary through HAProxy, which asks Patroni, the other by a list of hosts. Under load the primary
crashes, is switched over as planned, is lost with its node, lives on without its Patroni. What must hold each time, for both:
no acknowledged write is lost; what is refused is refused with 503 and Retry-After within a second, nothing hangs; within two
seconds of a new primary, by Patroni's own word, everything is answered again; and afterwards every connection that the servers
hold is fit. In the last case only through HAProxy: nothing keeps writes by a list of hosts from waiting at the old primary.
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from cluster import ROOT, Load, Node, serving, summary, wait, workplace
from psycopg import sql
from rolling import tell

from engine import embedded

DEPLOY = ROOT / "deploy" / "patroni"
NET = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"  # on this machine, instead of 192.0.2
PASSWORD = "a-password-of-this-check"
HAPROXY = "through HAProxy"
BOUNDS = {"refused": 1.0, "answered": 4.0, "written": 2.0}  # seconds: a 503, any request, a write after there is a new primary


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or sys.exit(f"{name} is needed (Debian: apt install etcd-server haproxy patroni)")


def place(file: str, run: Path) -> Path:
    """A file of deploy/patroni as it must be here; what it has in /run is in a folder."""
    text = (DEPLOY / file).read_text().replace("192.0.2", NET).replace("127.0.0.1", f"{NET}.1")
    (run / file).write_text(re.sub("/run/[a-z]+", str(run), text))
    return run / file


def rest(host: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Ask the Patroni of a node: status and body."""
    link = http.client.HTTPConnection(host, 8008, timeout=30 if body else 1)
    try:
        link.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        response = link.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith("{") else text
    finally:
        link.close()


class Member(Node):
    """A node: etcd, Patroni, and the PostgreSQL that it runs."""

    def __init__(self, folder: Path, number: int, programs: Path) -> None:
        super().__init__(folder, f"n{number}", programs)
        self.number, self.host = number, f"{NET}.2{number}"
        self.url = f"host={self.host} user=postgres password={PASSWORD} connect_timeout=2"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def place(self, file: str) -> Path:
        """A file of deploy/patroni, for this node, here."""
        run = self.folder.with_suffix(".run")
        if not run.exists():
            run.mkdir()
            os.chown(run, self.folder.parent.stat().st_uid, self.folder.parent.stat().st_gid)
        return place(file, run)

    def environment(self, file: str) -> dict[str, str]:
        """What a file says of the first node, for this one, here."""
        lines = [line.split("=", 1) for line in (DEPLOY / file).read_text().splitlines() if not line.startswith("#")]
        said = {k: v if k == "ETCD_INITIAL_CLUSTER" else v.replace(".21:", f".2{self.number}:") for k, v in lines}
        said = {key: value.replace("192.0.2", NET) for key, value in said.items()}
        said |= {f"{daemon}_NAME": self.name for daemon in ("ETCD", "PATRONI")} | {"ETCD_DATA_DIR": f"{self.folder}.etcd"}
        said |= {"PATRONI_POSTGRESQL_DATA_DIR": str(self.folder), "PATRONI_POSTGRESQL_BIN_DIR": str(self.programs)}
        said |= {"PATRONI_POSTGRESQL_PGPASS": f"{self.folder}.pgpass", "PATRONI_SUPERUSER_PASSWORD": PASSWORD}
        return {**self.run["env"], **said}

    def start(self) -> None:
        for name, *files in (["etcd"], ["patroni", "patroni.yml"]):
            if name not in self.daemons:
                command = [program(name), *(str(self.place(file)) for file in files)]
                with Path(f"{self.folder}.{name}.log").open("ab") as log:
                    run = self.run | {"env": self.environment(f"{name}.env"), "stdout": log, "stderr": log}
                    self.daemons[name] = subprocess.Popen(command, **run)

    def stop(self) -> None:
        """Lose all of it at once."""
        for daemon in self.daemons.values():
            daemon.kill()
        super().stop()
        while self.daemons:
            self.daemons.popitem()[1].wait()

    def primary(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return rest(self.host, "/primary")[0] == 200
        return False


def whole(members: list[Member]) -> Any:
    """The cluster when nothing is missing: one leader, who has a synchronous standby, and all stream."""
    found = rest(next(filter(Member.primary, members), members[0]).host, "/cluster")[1]["members"]
    roles = sorted(one["role"] for one in found if one["state"] in ("running", "streaming"))
    standbys = [one for one in found if one["role"] != "leader" and one.get("lag") == 0]
    return roles == ["leader", "replica", "sync_standby"] and len(standbys) == 2


def crash(primary: Member, _: list[Member]) -> None:
    primary.signal(signal.SIGKILL, all_=False)


def switchover(primary: Member, members: list[Member]) -> None:
    found = rest(primary.host, "/cluster")[1]["members"]
    candidate = next(one["name"] for one in found if one["role"] == "sync_standby")
    status, text = rest(primary.host, "/switchover", {"leader": primary.name, "candidate": candidate})
    if status != 200:
        sys.exit(f"switchover: {status} {text}")


def loss(primary: Member, _: list[Member]) -> None:
    primary.stop()


def orphan(primary: Member, _: list[Member]) -> None:
    primary.daemons["patroni"].kill()
    primary.daemons.pop("patroni").wait()


FENCED = "the primary's Patroni alone is killed"  # PostgreSQL lives on: nothing keeps who has a list of hosts from it
CASES: dict[str, Callable[[Member, list[Member]], None]] = {
    "the primary's main process is killed": crash,
    "planned switchover": switchover,
    "the primary's node is lost: etcd, Patroni, PostgreSQL": loss,
    FENCED: orphan,
}


def trial(members: list[Member], ports: dict[str, int], name: str) -> list[str]:
    """The faults of one case, for each way to the database."""
    wait("a whole cluster", lambda: whole(members), 60)
    old = next(member for member in members if member.primary())
    others = [member for member in members if member is not old]
    with ExitStack() as stack:
        loads = {way: stack.enter_context(Load(port, clients=6, pause=0.02)) for way, port in ports.items()}
        time.sleep(1)
        began = time.monotonic()
        CASES[name](old, members)
        primary = wait("a new primary", lambda: next(filter(Member.primary, others), None), 60)
        promoted = time.monotonic()
        time.sleep(4)
    print(f"{name}: {primary.name} instead of {old.name} after {promoted - began:.1f} s")
    print(f"{'':22} requests  refused  stored  lost  no write   again in  slowest 503  request")
    stored = primary.stored("stuff")
    faults = list[str]()
    for way, load in loads.items():
        bounds = BOUNDS if way == HAPROXY or name != FENCED else dict.fromkeys(BOUNDS, float("inf"))
        faults += [f"{way}: {fault}" for fault in judge(way, load, began, promoted, stored, bounds)]
    old.start()
    wait("a whole cluster", lambda: whole(members), 60)
    for way, port in ports.items():
        with Load(port, clients=12) as load:
            time.sleep(1)
        if wrong := [a for a in load.answers if a.status not in (200, 201)]:
            faults.append(f"{way}: refused afterwards: {summary(wrong)}")
        print(f"  {way}, all nodes back: {summary(load.answers)}")
    return [f"{name}, {fault}" for fault in faults]


def judge(way: str, load: Load, began: float, promoted: float, stored: set[str], bounds: dict[str, float]) -> list[str]:
    """What one load tells."""
    told = load.acknowledged()
    refused = [a for a in load.answers if a.status not in (200, 201)]
    lost, wrong = told - stored, [a for a in refused if a.status != 503 or not a.retry]
    slowest, longest = (max((a.took for a in some), default=0.0) for some in (refused, load.answers))
    after = min((a.ended for a in load.since(began) if a.status == 201 and a.ended > promoted), default=float("inf")) - promoted
    gap = max(b - a for a, b in pairwise(sorted(a.ended for a in load.answers if a.status == 201)))
    late = [a for a in load.since(promoted + bounds["written"]) if a.status not in (200, 201)]
    print(
        f"  {way:<20}{len(load.answers):9}{len(refused):8}{len(told):9}{len(lost):6}{gap:8.1f} s{after:8.2f} s"
        f"{slowest:9.2f} s{longest:9.2f} s"
    )
    faults = {
        f"{len(lost)} acknowledged writes are lost": bool(lost),
        f"refused otherwise than by 503 with Retry-After: {summary(wrong)}": bool(wrong),
        f"a 503 took {slowest:.2f} s": slowest > bounds["refused"],
        f"a request took {longest:.2f} s": longest > bounds["answered"],
        f"no write for {after:.2f} s of a new primary": after > bounds["written"],
        f"still refused {bounds['written']} s after the new primary: {summary(late)}": bool(late),
    }
    return [fault for fault, found in faults.items() if found]


def prepare(folder: Path, primary: Member) -> dict[str, str]:
    """The role and database of the servers; their connection string for each way."""
    statement = sql.SQL("CREATE ROLE stuff LOGIN PASSWORD {}").format(PASSWORD)
    with psycopg.connect(primary.url, dbname="postgres", autocommit=True) as link:
        link.execute(statement)
        link.execute("CREATE DATABASE stuff OWNER stuff")
    secret = folder / "pgpass"
    secret.touch(0o600)
    secret.write_text(f"*:*:*:stuff:{PASSWORD}\n")
    common = f"dbname=stuff user=stuff passfile={secret} target_session_attrs=read-write"
    hosts = ",".join(f"{NET}.2{number}" for number in (1, 2, 3))
    return {HAPROXY: f"host={NET}.1 port=6432 {common}", "by a list of hosts": f"host={hosts} port=5432 {common}"}


def main() -> None:
    began, faults = time.monotonic(), list[str]()
    for name in ("etcd", "haproxy", "patroni"):
        program(name)
    with workplace() as folder, ExitStack() as stack:
        programs = embedded.programs(folder)
        members = [Member(folder, number, programs) for number in (1, 2, 3)]
        for member in members:
            stack.callback(member.stop)
            member.start()
        wait("a whole cluster", lambda: whole(members), 60)
        print(f"three nodes after {time.monotonic() - began:.1f} s")
        urls = prepare(folder, next(member for member in members if member.primary()))
        log = (folder / "haproxy.log").open("wb")
        balancer = subprocess.Popen([program("haproxy"), "-db", "-f", place("haproxy.cfg", folder)], stdout=log, stderr=log)
        stack.callback(balancer.wait)
        stack.callback(balancer.terminate)
        wait("HAProxy to tell who is primary", lambda: tell(folder / "admin.sock", "show stat").count(",DOWN,") == 2)
        ports = {}
        for way, url in urls.items():
            ports[way] = stack.enter_context(serving(folder, url, name=way))
        for name in CASES:
            faults += trial(members, ports, name)
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
