"""Cut, over-long and slow bodies through the proxies of deploy/, HAProxy and nginx: `make check.proxies`.

Runs tests/test_cuts.py against each, and sends odd requests to nginx, whose refusals must be JSON as well. HAProxy answers
those with a page that cannot be replaced: its errorfile is for requests that it could parse. Apache: `make deploy.check`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cluster import ROOT, Cluster, ask_once, free_port, serving, wait, workplace
from rolling import balancer

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
user {user};
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {site}
}}
"""
# requests that a proxy refuses itself, and the statuses with which it may
ODD = {
    b"nonsense\r\n\r\n": {400},
    b"GET /stuff HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n": {400},
    b"GET /stuff HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n": {400, 431},
    b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n": {400, 414},
    b"GET /stuff HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": {400},
}


def nginx(folder: Path, server: int, port: int) -> "subprocess.Popen[bytes]":
    """nginx by the file that is deployed, without TLS, in front of one server whose API is not mounted below /api."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if not program:
        sys.exit("nginx is needed (Debian: apt install nginx-light)")
    site = (ROOT / "deploy" / "systemd" / "nginx.conf").read_text()
    site = re.sub(r"(?m)^ *(ssl_|server 127\.0\.0\.1:5002).*\n", "", site).replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    site = site.replace("127.0.0.1:5001", f"127.0.0.1:{server}").replace("location /api", "location /")
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, site=site, user="nobody nogroup" if not os.geteuid() else "")
    )
    return subprocess.Popen([program, "-c", folder / "nginx.conf", "-e", folder / "nginx.error"])


def answers(port: int) -> bool:
    return ask_once(port, "GET", "").status == 200


def odd(port: int) -> list[str]:
    """Send odd requests; those whose answer is not the one body of errors."""
    faults = []
    for sent, statuses in ODD.items():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(sent)
            head, _, body = link.makefile("rb").read().partition(b"\r\n\r\n")
        try:
            said = json.loads(body)
            right = said["status"] == int(head[9:12]) and said["status"] in statuses and b"application/json" in head
            right = right and said.keys() == {"error", "status", "code", "request_id"}
        except ValueError:
            right = False
        if not right:
            faults.append(f"{sent[:40]!r}: {head!r} {body[:200]!r}")
    return faults


def main() -> None:
    faults = []
    with workplace() as folder, ExitStack() as stack:
        cluster = Cluster(folder, nodes=1)
        stack.callback(cluster.stop)
        cluster.primary.sql("CREATE DATABASE stuff_test")
        settings: dict[str, Any] = {
            "TRUSTED_PROXIES": 1,
            "BODY_TIMEOUT": 2.0,
            "PASSWORD_COST": 4,
            "DATABASE_WRITE_TIMEOUT": 2.0,
            "REDIS_URL": None,
        }
        server = stack.enter_context(serving(folder, cluster.url(), **settings))
        ports = {"haproxy": free_port(), "nginx": free_port()}
        here = {"192.0.2.11:5000": f"127.0.0.1:{server}", "server two": "#", "bind :80": f"bind 127.0.0.1:{ports['haproxy']}"}
        for process in (balancer(folder, here), nginx(folder, server, ports["nginx"])):
            stack.callback(process.wait)
            stack.callback(process.terminate)
        database = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(cluster.primary.port),
            "PGUSER": "postgres",
            "PGDATABASE": "stuff_test",
        }
        for name, port in ports.items():
            wait(name, partial(answers, port))
            environ = os.environ | database | {"FLASK_TESTER_APP": f"http://127.0.0.1:{port}", "PROXY": name}
            tests = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "tests/test_cuts.py"]
            print(name, flush=True)
            if subprocess.run(tests, env=environ, cwd=ROOT).returncode:
                faults.append(f"{name}: tests/test_cuts.py")
        faults += odd(ports["nginx"])
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
