"""Two servers behind HAProxy, restarted one after the other under load: `make check.rolling`. No request may be lost.

Each is drained first: the balancer sends it nothing new, what it has is answered, then it is restarted and taken back.
"""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cluster import Cluster, Load, ask_once, free_port, restart, serving, summary, wait, workplace

CONFIG = """
global
    stats socket {folder}/haproxy.sock level admin
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    option http-buffer-request
    option redispatch
    retries 3
listen stuff
    bind 127.0.0.1:{port}
    option httpchk GET /ready
    default-server check inter 200ms fall 2 rise 1
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
"""


def balancer(folder: Path, one: int, two: int) -> "tuple[subprocess.Popen[bytes], int]":
    program, port = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin"), free_port()
    if not program:
        sys.exit("haproxy is needed (Debian: apt install haproxy)")
    (folder / "haproxy.cfg").write_text(CONFIG.format(folder=folder, port=port, one=one, two=two))
    log = (folder / "haproxy.log").open("wb")
    return subprocess.Popen([program, "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log), port


def tell(folder: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(folder / "haproxy.sock"))
        door.sendall(command.encode() + b"\n")
        return door.makefile().read()


def idle(folder: Path, name: str) -> bool:
    """Whether a server has answered all it was sent."""
    head, *rows = [line.split(",") for line in tell(folder, "show stat").splitlines() if line]
    return next(row[head.index("scur")] for row in rows if row[1] == name) == "0"


def main() -> None:
    with workplace() as folder, ExitStack() as stack:
        cluster, process = Cluster(folder, nodes=1), None
        try:
            cluster.primary.sql("CREATE DATABASE stuff_test")
            ports = {name: stack.enter_context(serving(folder, cluster.url())) for name in ("one", "two")}
            process, port = balancer(folder, **ports)
            wait("the balancer", lambda: ask_once(port, "GET", "").status == 200)
            with Load(port) as load:
                time.sleep(1)
                for name, own in ports.items():
                    tell(folder, f"set server stuff/{name} state drain")
                    wait(f"{name} drained", partial(idle, folder, name))
                    restart(own)
                    tell(folder, f"set server stuff/{name} state ready")
                    time.sleep(1)
        finally:
            if process:
                process.terminate()
                process.wait()
            stack.close()
            cluster.stop()
    lost = [a for a in load.answers if a.status not in (200, 201)]
    print(f"{summary(load.answers)}; slowest {max(a.took for a in load.answers):.2f} s")
    sys.exit(f"not answered: {summary(lost)}" if lost else None)


if __name__ == "__main__":
    main()
