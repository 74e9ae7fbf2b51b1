"""A real Prometheus scrapes the server: its rules load, and each graph of the dashboard has data: `make check.monitoring`."""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from cluster import ROOT, Cluster, Load, basic, free_port, serving, wait, workplace

MONITORING = ROOT / "deploy" / "monitoring"
KEY = "a key that the scraper has"
# empty in good times, and without standbys
QUIET = {"Errors of the server", "Statements that failed, by class of SQLSTATE", "Waits for a session"}
QUIET |= {"Reads meant for standbys on the primary"}


def get(url: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        return json.load(answer)["data"]


def run(*command: "str | Path") -> None:
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def prometheus(folder: Path, server: int) -> "tuple[subprocess.Popen[bytes], str]":
    """Start it with the project's own configuration, but for names, ports and patience."""
    text = (MONITORING / "prometheus.yml").read_text().replace("127.0.0.1:5000", f"127.0.0.1:{server}").replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    (folder / "metrics.key").write_text(KEY)
    shutil.copy(MONITORING / "alerts.yml", folder)
    port = free_port()
    process = subprocess.Popen(
        ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address=127.0.0.1:{port}"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "prometheus.log").open("wb"),
    )
    return process, f"http://127.0.0.1:{port}/api/v1"


def main() -> None:
    if not (shutil.which("promtool") and shutil.which("prometheus")):
        sys.exit("prometheus and promtool are needed (Debian: apt install prometheus)")
    run("promtool", "check", "rules", "alerts.yml")
    run("promtool", "test", "rules", "alerts_test.yml")
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    with workplace() as folder:
        cluster, process = Cluster(folder, nodes=1), None
        try:
            cluster.primary.sql("CREATE DATABASE stuff_test")
            with serving(folder, cluster.url("any"), METRICS_KEY=KEY) as port:
                process, api = prometheus(folder, port)
                wait("Prometheus", lambda: get(f"{api}/targets", state="active")["activeTargets"][0]["health"] == "up")
                with Load(port) as load:
                    login(port)
                    time.sleep(6)
                told = sum(a.status == 201 for a in load.answers)
                wait("a last scrape", lambda: total(api, 'http_requests_total{route="/stuff",status="201"}') == told, 5)
                print(f"{told} writes told to clients are {told} in Prometheus, by two processes")
                faults = [f"{panel['title']}: no data" for panel in panels if not shown(api, panel)]
                rules = [rule for group in get(f"{api}/rules")["groups"] for rule in group["rules"]]
                faults += [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok"]
                print(f"{len(panels)} graphs have data, {len(rules)} alert rules are evaluated")
        finally:
            if process:
                process.terminate()
                process.wait()
            cluster.stop()
    sys.exit("\n".join(faults) or None)


def login(port: int) -> None:
    """A login, and one that is refused twice: remembered passwords, events at the door."""
    for path, password in (("/whoami", "hobbes"), ("/login", "hobbes"), ("/whoami", "wrong")) * 2:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        request.add_header("Authorization", basic("calvin", password))
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
        time.sleep(1.2)  # a rate needs two scrapes


def total(api: str, query: str) -> float:
    return sum(float(one["value"][1]) for one in get(f"{api}/query", query=query)["result"])


def shown(api: str, panel: dict[str, Any]) -> bool:
    """Whether all graphs of a panel are valid, and one of them shows something."""
    queries = [target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".*") for target in panel["targets"]]
    found = [get(f"{api}/query", query=query)["result"] for query in queries]
    return any(found) or panel["title"] in QUIET


if __name__ == "__main__":
    main()
