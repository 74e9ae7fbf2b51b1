"""Two servers behind HAProxy, restarted one after the other under load: `make check.rolling`. No request may be lost.

Each is drained first: the balancer sends it nothing new, what it has is answered, then it is restarted and taken back.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cluster import ROOT, Cluster, Load, ask_once, free_port, restart, serving, summary, wait, workplace

DEPLOY = ROOT / "deploy" / "haproxy"


def balancer(folder: Path, places: dict[str, str]) -> "subprocess.Popen[bytes]":
    """HAProxy by the file that is deployed, with other places where that is needed."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not program:
        sys.exit("haproxy is needed (Debian: apt install haproxy)")
    text = (DEPLOY / "haproxy.cfg").read_text()
    for told, here in (places | {"/run/haproxy": str(folder), "/etc/haproxy": str(DEPLOY)}).items():
        text = text.replace(told, here)
    (folder / "haproxy.cfg").write_text(text)
    log = (folder / "haproxy.log").open("wb")
    return subprocess.Popen([program, "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log)


def tell(balancer: Path, command: str) -> str:
    """Talk to a balancer on its socket."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(balancer))
        door.sendall(command.encode() + b"\n")
        return door.makefile().read()


def has(folder: Path, name: str, column: str, value: str) -> bool:
    """Whether that is what the balancer knows of a server."""
    head, *rows = [line.split(",") for line in tell(folder / "admin.sock", "show stat").splitlines() if line]
    return next(row[head.index(column)] for row in rows if row[1] == name) == value


def roll(folder: Path, restarts: dict[str, Callable[[], None]]) -> None:
    """Drain each server, restart it, take it back."""
    for name, restarted in restarts.items():
        tell(folder / "admin.sock", f"set server stuff/{name} state drain")
        wait(f"{name} drained", partial(has, folder, name, "scur", "0"))
        restarted()
        tell(folder / "admin.sock", f"set server stuff/{name} state ready")
        wait(f"{name} back", partial(has, folder, name, "status", "UP"))
        time.sleep(1)


def main() -> None:
    with workplace() as folder, ExitStack() as stack:
        cluster, port = Cluster(folder, nodes=1), free_port()
        stack.callback(cluster.stop)
        cluster.primary.sql("CREATE DATABASE stuff_test")
        ports = {
            name: stack.enter_context(serving(folder, cluster.url(), name=name, TRUSTED_PROXIES=1)) for name in ("one", "two")
        }
        places = {"192.0.2.11:5000": f"127.0.0.1:{ports['one']}", "192.0.2.12:5000": f"127.0.0.1:{ports['two']}"}
        process = balancer(folder, places | {"bind :80": f"bind 127.0.0.1:{port}"})
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait("the balancer", lambda: ask_once(port, "GET", "").status == 200)
        with Load(port) as load:
            time.sleep(1)
            roll(folder, {name: partial(restart, name) for name in ports})
    lost = [a for a in load.answers if a.status not in (200, 201)]
    print(f"{summary(load.answers)}; slowest {max(a.took for a in load.answers):.2f} s")
    sys.exit(f"not answered: {summary(lost)}" if lost else None)


if __name__ == "__main__":
    main()
