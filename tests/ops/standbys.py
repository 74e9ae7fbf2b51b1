"""Reads on two standbys that lag, stop, freeze and die, in front of them the server: `make check.standbys`.

What must hold: who has just written reads it, always, though a standby replays late; nobody reads what is older than the bound,
though a standby does not replay at all; no read is refused because a standby, or all, or the primary is gone; a standby that is
back gets its share. The controls must see old data: else this would not see any. Which server answered a read is told by the
request's id in that server's own log.
"""

import http.client
import itertools
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from cluster import Cluster, Node, Threads, at_once, serving, wait, workplace

STALE = 2.0  # seconds
SETTINGS: dict[str, Any] = {
    "DATABASE_MAX_AGE": 3.0,
    "DATABASE_TRACE": True,
    "METRICS_KEY": "the check knows this key",
    "AUDIT_SEAL": 0,
}
ID = re.compile(r"\[stuff (check-[0-9]+)\]")  # %a of log_line_prefix
WHY = "stuff_reads_on_primary_total"


class Client:
    """One connection, each request under an id that is told to no other."""

    count = itertools.count()

    def __init__(self, port: int) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.id = ""

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str, "http.client.HTTPMessage"]:
        self.id = f"check-{next(self.count)}"
        sent = {"X-Request-Id": self.id, "Content-Type": "application/json"} | headers
        self.link.request(method, path, None if body is None else json.dumps(body), sent)
        answer = self.link.getresponse()
        return answer.status, answer.read().decode(), answer.headers


class Check:
    """A cluster, and the faults that were found."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.faults = cluster, list[str]()

    def must(self, what: str, holds: bool) -> None:
        print(f"{'ok' if holds else 'FAULT'}: {what}", flush=True)
        if not holds:
            self.faults.append(what)

    def answered(self, ids: list[str]) -> dict[str, int]:
        """How many of these requests each server's log knows: two know one that the primary took over."""
        logs = {node.name: (node.folder.parent / f"{node.name}.log").read_text(errors="replace") for node in self.cluster.nodes}
        return {name: len(set(ids) & set(ID.findall(log))) for name, log in logs.items()}

    def pairs(self, port: int, tag: str, number: int, token: bool) -> tuple[int, list[str]]:
        """Write, then read what was written, five clients at once: how many did not see it, and the ids of the reads."""
        missed, ids = Counter[int](), list[str]()

        def client(me: int) -> None:
            one = Client(port)
            for i in range(number // 5):
                status, body, headers = one.ask("POST", "/stuff", {"stuff": f"{tag}-{me}-{i}"})
                assert status == 201, body
                back = {"Consistency-Token": headers["Consistency-Token"]}
                if token and i % 2:  # as a browser does
                    back = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
                status, _, _ = one.ask("GET", f"/stuff/{json.loads(body)['sid']}", **(back if token else {}))
                missed[status] += 1
                ids.append(one.id)

        at_once(client, 5)
        return missed.total() - missed[200], ids

    @contextmanager
    def reading(self, port: int) -> Iterator[tuple[list[str], Counter[int], list[float]]]:
        """Six readers: the ids of their requests, what they were answered, how long it took."""
        ids, statuses, took = list[str](), Counter[int](), list[float]()

        def client(_: int) -> None:
            one = Client(port)
            while not readers.over.wait(0.005):
                began = time.monotonic()
                statuses[one.ask("GET", "/stuff/1")[0]] += 1
                took.append(time.monotonic() - began)
                ids.append(one.id)

        readers = Threads(client, 6)
        with readers:
            yield ids, statuses, took

    def share(self, what: str, port: int, *nodes: Node) -> None:
        """These nodes must get reads, of which none is refused; by chance it may take a few rounds of new connections."""
        answers, spread = Counter[int](), Counter[str]()
        for _ in range(5):
            with self.reading(port) as (ids, statuses, _):
                time.sleep(2)
            answers += statuses
            spread += Counter(self.answered(ids))
            if all(spread[node.name] > 50 for node in nodes):
                break
        self.must(
            f"{what}: {dict(answers)}, answered by {dict(spread)}",
            set(answers) == {200} and all(spread[n.name] > 50 for n in nodes),
        )

    def age(self, stuck: Node, port: int, control: int, seconds: float) -> tuple[float, float, int]:
        """The oldest that was read, by both servers, of a row written all the time while a node is stuck; how many reads."""
        acked: list[float] = []  # when version i was answered
        oldest, reads = {port: 0.0, control: 0.0}, Counter[int]()

        def writer() -> None:
            one = Client(port)
            while not clients.over.wait(0.02):
                assert one.ask("PUT", "/stuff/2", {"stuff": f"version {len(acked)}"})[0] == 204
                acked.append(time.monotonic())

        def reader(me: int) -> None:
            mine = (port, control)[me % 2]
            one = Client(mine)
            while not clients.over.wait(0.005):
                began, known = time.monotonic(), len(acked)
                status, body, _ = one.ask("GET", "/stuff/2")
                assert status == 200, body
                seen = int(json.loads(body)["stuff"].rpartition(" ")[2])
                reads[mine] += 1
                if seen + 1 < known:  # a later one had been answered, and since then
                    oldest[mine] = max(oldest[mine], began - acked[seen + 1])

        first = Client(port)
        assert first.ask("PUT", "/stuff/2", {"stuff": "version 0"})[0] == 204
        acked.append(time.monotonic())
        caught_up(self.cluster)
        stuck.sql("SELECT pg_wal_replay_pause()")
        clients = Threads(lambda i: reader(i) if i else writer(), 13)
        with clients:
            time.sleep(seconds)
        stuck.sql("SELECT pg_wal_replay_resume()")
        return oldest[port], oldest[control], reads[port]


def taken_over(port: int) -> dict[str, int]:
    """Reads that the primary took over, by why."""
    _, text, _ = Client(port).ask("GET", "/metrics", Authorization=f"Bearer {SETTINGS['METRICS_KEY']}")
    found = (line.rpartition(" ") for line in text.splitlines() if line.startswith(WHY))
    return {name.split('"')[1]: int(float(value)) for name, _, value in found}


def caught_up(cluster: Cluster) -> None:
    at = cluster.primary.sql("SELECT pg_current_wal_lsn()")[0][0]
    for node in cluster.standbys:
        wait(node.name, lambda node=node: node.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", at)[0][0])  # type: ignore[misc]


def late(node: Node, delay: str = "300ms") -> None:
    node.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'")
    node.sql("SELECT pg_reload_conf()")
    time.sleep(0.5)


def back(cluster: Cluster, *nodes: Node) -> None:
    for node in nodes:
        node.start()
    cluster.streaming(2)
    caught_up(cluster)


def run(check: Check, port: int, control: int) -> None:
    cluster, must = check.cluster, check.must
    slow, other = cluster.standbys

    missed, ids = check.pairs(port, "quick", 100, token=True)
    spread = check.answered(ids)
    must(f"100 reads of what was just written, {missed} old, answered by {spread}", missed == 0 and sum(spread.values()) >= 100)

    late(slow)
    missed, ids = check.pairs(port, "late", 500, token=True)
    spread = check.answered(ids)
    must(f"a standby 0.3 s late: 500 reads with the token, {missed} old, answered by {spread}", missed == 0)
    late(other)
    missed, ids = check.pairs(port, "control", 200, token=False)
    spread = check.answered(ids)
    must(f"the control, both late: 200 reads without, {missed} old, answered by {spread}", missed > 0)
    late(slow, "0")
    late(other, "0")
    caught_up(cluster)
    check.share("both standbys", port, slow, other)

    ours, theirs, reads = check.age(slow, port, control, 4 * STALE)
    must(f"a standby that does not replay: of {reads} reads the oldest was {ours:.2f} s old, bound {STALE} s", ours <= STALE)
    must(f"the control, without a bound: {theirs:.2f} s", theirs > 1.5 * STALE)
    caught_up(cluster)

    for name, number in (("is killed", signal.SIGKILL), ("freezes", signal.SIGSTOP)):
        with check.reading(port) as (ids, statuses, took):
            time.sleep(0.5)
            other.signal(number)
            time.sleep(2)
        must(f"a standby {name}: {dict(statuses)}, slowest {max(took):.2f} s", set(statuses) == {200})
        other.stop()
        back(cluster, other)
        check.share("it is back", port, other)

    with check.reading(port) as (ids, statuses, took):
        time.sleep(0.5)
        for node in cluster.standbys:
            node.stop()
        middle = len(ids)
        time.sleep(2)
    spread = check.answered(ids[middle + 20 :])
    must(f"all standbys are killed: {dict(statuses)}, slowest {max(took):.2f} s", set(statuses) == {200})
    must(f"reads go to the primary: {spread}", spread["n1"] > 50)
    back(cluster, *cluster.standbys)
    check.share("they are back", port, slow, other)

    with check.reading(port) as (ids, statuses, took):
        time.sleep(0.5)
        cluster.primary.stop()
        middle = len(ids)
        time.sleep(2 * STALE)
    spread = check.answered(ids[middle + 20 :])
    must(f"the primary is killed: {dict(statuses)}, slowest {max(took):.2f} s", set(statuses) == {200})
    must(f"reads go on: {spread}", spread["n1"] == 0 and spread["n2"] + spread["n3"] > 50)


def main() -> None:
    with workplace() as folder, ExitStack() as stack:
        cluster = Cluster(folder)
        try:
            for node in cluster.nodes:
                node.configure("log_min_duration_statement = 0\n")
                node.sql("SELECT pg_reload_conf()")
            cluster.primary.sql("CREATE DATABASE stuff_test")
            read = f"{cluster.url('prefer-standby')} load_balance_hosts=random"
            port, control = (
                stack.enter_context(serving(folder, cluster.url(), DATABASE_READ=read, DATABASE_STALE=stale, **SETTINGS))
                for stale in (STALE, 3600.0)
            )
            caught_up(cluster)
            check = Check(cluster)
            run(check, port, control)
            print(f"taken over by the primary: {taken_over(port)}")
        finally:
            stack.close()
            cluster.stop()
    sys.exit("; ".join(check.faults) or None)


if __name__ == "__main__":
    main()
