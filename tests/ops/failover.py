"""The server in front of three PostgreSQL nodes whose primary is killed under load, time and again: `make check.failover`.

A commit waits for one of two standbys. What must hold, each time: no write that was acknowledged is lost; what is refused is
refused with 503 and Retry-After within a second, nothing hangs and no client is cut off; within two seconds of a new primary
everything is answered again. With synchronous_commit off, the control, writes must be lost: else this would not see losses.
"""

import signal
import sys
import time
from collections.abc import Callable

from cluster import Cluster, Load, Node, serving, summary, workplace

KILLS: dict[str, Callable[[Node], None]] = {
    "the primary's main process is killed": lambda node: node.signal(signal.SIGKILL, all_=False),
    "all processes of the primary are killed": lambda node: node.signal(signal.SIGKILL),
    "the primary freezes: it takes connections and never answers": lambda node: node.signal(signal.SIGSTOP),
}


def kill(cluster: Cluster, port: int, name: str) -> tuple[Load, float, float]:
    """Kill the primary under load; the load, when that was, and when there was another."""
    with Load(port) as load:
        time.sleep(1.0)
        killed = time.monotonic()
        KILLS[name](cluster.primary)
        promoted = cluster.failover()
        time.sleep(3.0)
    return load, killed, promoted


def check(cluster: Cluster, port: int, name: str) -> list[str]:
    """The faults of one trial."""
    load, killed, promoted = kill(cluster, port, name)
    lost = load.acknowledged() - cluster.primary.stored()
    refused = [a for a in load.answers if a.status not in (200, 201)]
    written = min((a.ended for a in load.since(killed) if a.status == 201 and a.ended > promoted), default=float("inf"))
    slowest = max(a.took for a in refused)
    faults = []
    if lost:
        faults.append(f"{len(lost)} acknowledged writes are lost")
    if wrong := [a for a in refused if a.status != 503 or not a.retry]:
        faults.append(f"refused otherwise than by 503 with Retry-After: {summary(wrong)}")
    if slowest > 1:
        faults.append(f"a 503 took {slowest:.2f} s")
    if (hung := max(a.took for a in load.answers)) > 4:
        faults.append(f"a request took {hung:.2f} s")
    if written - promoted > 2:
        faults.append(f"no write for {written - promoted:.2f} s of a new primary")
    if late := [a for a in load.since(promoted + 2) if a.status not in (200, 201)]:
        faults.append(f"still refused two seconds after the promotion: {summary(late)}")
    print(f"{name}:\n  {summary(load.answers)}")
    print(
        f"  acknowledged and lost {len(lost)} of {len(load.acknowledged())}; new primary after {promoted - killed:.2f} s,"
        f" writes {written - promoted:.2f} s later; slowest 503 {slowest:.2f} s, slowest request {hung:.2f} s"
    )
    return [f"{name}: {fault}" for fault in faults]


def control(cluster: Cluster, port: int) -> list[str]:
    """The same without waiting for the disk or a standby: it must lose writes."""
    for node in cluster.nodes:
        node.sql("ALTER SYSTEM SET synchronous_commit = off")
        node.sql("ALTER SYSTEM SET wal_writer_delay = '1s'")
        node.sql("SELECT pg_reload_conf()")
    time.sleep(0.2)
    load, *_ = kill(cluster, port, "all processes of the primary are killed")
    lost = load.acknowledged() - cluster.primary.stored()
    print(f"control, synchronous_commit off: acknowledged and lost {len(lost)} of {len(load.acknowledged())}")
    return [] if lost else ["the control lost nothing: this check sees no losses"]


def main() -> None:
    began, faults = time.monotonic(), []
    with workplace() as folder:
        cluster = Cluster(folder)
        try:
            cluster.primary.sql("CREATE DATABASE stuff_test")
            print(f"three nodes after {time.monotonic() - began:.1f} s")
            with serving(folder, cluster.url()) as port:
                for name in KILLS:
                    faults += check(cluster, port, name)
                    cluster.rejoin()
                faults += control(cluster, port)
        finally:
            cluster.stop()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
