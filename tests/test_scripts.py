"""start.sh and stop.sh: asked twice they do it once, what is stale misleads nobody, a dead database is named.

And what a deployment keeps on its target.
"""

import os
import random
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE

pytestmark = pytest.mark.internal  # of this clone, no matter which server is tested


@pytest.fixture
def port() -> int:
    """A free one, below the range from which the system takes ports for clients."""
    for port in random.sample(range(20000, 32000), 99):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


@pytest.fixture
def call(tmp_path: Path, port: int) -> Iterator[Callable[..., Any]]:
    """Run a script for a server of its own, on the database of the tests; what it said and how it ended."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    env |= {"HOST": "127.0.0.1", "PORT": str(port), "WORKERS": "1", "THREADS": "1", "KEEP_DB": "1"}
    env |= {"APP_PID": str(tmp_path / "app.pid"), "APP_LOG": str(tmp_path / "app.log")}

    def run(*command: str, **more: str) -> Any:
        return subprocess.run(command, cwd=HERE, env=env | more, capture_output=True, text=True, timeout=60)

    yield run
    run("./stop.sh")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_starts_once_survives_a_stale_process_id_and_stops(call: Any, port: int, tmp_path: Path) -> None:
    started = call("./start.sh")
    ready = re.fullmatch(rf"ready: http://127\.0\.0\.1:{port}, process (\d+)\n", started.stdout)
    assert ready, started.stderr
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
        assert answer.status == 200
    assert call("./start.sh").stdout == f"already running: http://127.0.0.1:{port}, process {ready[1]}\n"
    assert call("./stop.sh", "pid").stdout == ready[1] + "\n"
    assert stat.S_IMODE((tmp_path / "app.log").stat().st_mode) == 0o600

    os.kill(int(ready[1]), signal.SIGKILL)
    again = call("./start.sh")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "app.pid").read_text().strip() not in ("", ready[1])
    stopped = call("./stop.sh")
    assert re.fullmatch(r"stopped: process \d+\n", stopped.stdout), stopped.stderr
    assert not listens(port)
    assert not (tmp_path / "app.pid").exists()
    assert call("./stop.sh").stdout == f"no server of {tmp_path}/app.pid runs\n"


def test_a_server_that_runs_elsewhere_is_named_and_started_again_where_it_was(call: Any, port: int) -> None:
    assert call("./start.sh").returncode == 0
    refused = call("./start.sh", PORT=str(port + 1))
    assert refused.returncode == 1
    assert f"already running: http://127.0.0.1:{port}, process " in refused.stderr
    assert f"make restart HOST=127.0.0.1 PORT={port + 1}" in refused.stderr
    again = call("./start.sh", "again", HOST="", PORT="")
    assert again.stdout.startswith(f"ready: http://127.0.0.1:{port}, process "), again.stderr
    moved = call("./start.sh", "again", HOST="::1", PORT=str(port + 1))
    assert moved.stdout.startswith(f"ready: http://[::1]:{port + 1}, process "), moved.stderr
    assert not listens(port)


def test_a_server_whose_worker_dies_again_and_again_is_kept_until_it_is_stopped(call: Any, port: int, tmp_path: Path) -> None:
    call("./start.sh")
    main = call("./stop.sh", "pid").stdout.strip()

    def worker(known: str = "") -> str:
        for _ in range(100):
            found = Path(f"/proc/{main}/task/{main}/children").read_text().split()
            if found and found[-1] != known:
                return found[-1]
            time.sleep(0.1)
        raise AssertionError("no worker")

    first = worker()
    os.kill(int(first), signal.SIGKILL)
    os.kill(int(worker(first)), signal.SIGKILL)  # which Granian takes for a crash loop, and ends
    for _ in range(200):
        if (again := call("./stop.sh", "pid").stdout.strip()) not in ("", main) and listens(port):
            break
        time.sleep(0.1)
    assert again not in ("", main)
    assert "the server ended with status 1, again in 1 s" in (tmp_path / "app.log").read_text()
    assert call("./start.sh").stdout.startswith("already running")
    call("./stop.sh")
    assert call("./stop.sh", "ours").stdout == ""
    time.sleep(1.5)
    assert not listens(port)


def test_a_process_that_only_has_the_number_is_not_taken_for_the_server(call: Any, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (tmp_path / "app.pid").write_text(f"{other.pid}\n")
            assert call("./stop.sh", "pid").returncode != 0
            assert call("./stop.sh").returncode == 0
            assert other.poll() is None
        finally:
            other.kill()


def test_a_port_of_somebody_else_is_left_to_him(call: Any, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        refused = call("./start.sh")
    assert refused.returncode == 1
    assert refused.stderr == f"http://127.0.0.1:{port} is in use\n"


def test_a_dead_database_is_named_without_its_password_and_never_replaced(call: Any, port: int, tmp_path: Path) -> None:
    refused = call("./start.sh", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/gone")
    assert refused.returncode == 1
    assert "no database: host 127.0.0.1, port 1, database gone: " in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr + (tmp_path / "app.log").read_text()
    assert not listens(port)
    assert not (tmp_path / "app.pid").exists()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """What there is on the target of a deployment, with three releases, the second one the current one."""
    for name in ("conf", "log", "dumps", "venvs"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf" / "env").write_text("APP_NAME=stuff\n")
    for day in (1, 2, 3):
        deploy = tmp_path / "releases" / f"2026010{day}T000000Z-abc" / "deploy"
        deploy.mkdir(parents=True)
        (deploy / "remote").symlink_to(HERE / "deploy" / "remote")
    (tmp_path / "current").symlink_to("releases/20260102T000000Z-abc")
    return tmp_path


@pytest.mark.parametrize(
    ("dumps", "kept"),
    [
        ([], []),
        (["02T0-asked.dump"], ["02T0-asked.dump"]),
        (
            ["01T0-asked.dump", "02T0-abc.dump", "03T0-asked.dump", "04T0-before.dump", "05T0-abc.dump", "06T0-abc.dump.new"],
            ["01T0-asked.dump", "03T0-asked.dump", "04T0-before.dump", "05T0-abc.dump", "06T0-abc.dump.new"],
        ),
    ],
)
def test_a_deployment_keeps_the_last_releases_and_their_dumps_and_all_that_were_asked_for(
    target: Path, dumps: list[str], kept: list[str]
) -> None:
    for dump in dumps:
        (target / "dumps" / dump).touch()
    remote = target / "releases" / "20260102T000000Z-abc" / "deploy" / "remote"
    subprocess.run([remote, "do", "prune", "1"], check=True, timeout=60)
    assert sorted(path.name for path in (target / "dumps").iterdir()) == kept
    assert sorted(path.name for path in (target / "releases").iterdir()) == ["20260102T000000Z-abc", "20260103T000000Z-abc"]


def test_the_demonstration_is_loaded_once_and_on_a_local_instance_alone(call: Any, sql: Any, tmp_path: Path) -> None:
    tables = "Stuff", "Utilisateur", "Owned", "Audit"
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    deployed = tmp_path / "deployed.conf"
    deployed.write_text("LOCAL = False\n")
    before = sql(count)
    refused = call("make", "-s", "demo", APP_CONFIG=str(deployed))
    assert (refused.returncode, sql(count)) == (2, before)
    assert refused.stderr.startswith(f"refused: {deployed} is no local instance's")
    seen = []
    for _ in range(2):
        loaded = call("make", "-s", "demo")
        assert loaded.returncode == 0, loaded.stderr
        seen += sql(count)
    assert seen[0] == seen[1]
    assert seen[0][0] > 100
    told = sql("SELECT login, after ->> 'stuff' FROM Audit WHERE tab = 'stuff' AND event = 'UPDATE' ORDER BY aid")
    assert told == [("susie", "Glass lamp, chipped"), ("hobbes", "Glass lamp, mended"), ("calvin", "Green glass lamp")]
