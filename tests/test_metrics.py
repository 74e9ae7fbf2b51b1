"""What Prometheus sees: who may see it, that it is right over several processes, and that it outlives one."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import bearer
from inside import series

KEY = bearer("the tests' scraper knows this key")
COUNT = """
import os, sys
from engine.metrics import Counters
counters = Counters()
counters.open(sys.argv[1])
counters.request("GET", "/stuff", 200, 0.002)
counters.request("BREW", None, 405, 99)
counters.set("stuff_pool_size", 4, pool="read")
print("counted", flush=True)
sys.stdin.read()
"""


def scrape(client: Any) -> dict[str, float]:
    """Every series and its value."""
    return series(client.get("/metrics", 200, headers=KEY).text)


def test_the_metrics_are_for_the_scraper_and_administrators(client: Any, calvin: Any, hobbes: Any) -> None:
    response = client.get("/metrics", 200, headers=KEY)
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert response.headers["Cache-Control"] == "no-store"
    client.get("/metrics", 200, headers=calvin)
    client.get("/metrics", 403, headers=hobbes)
    for headers in ({}, bearer("wrong"), bearer(""), bearer("é".encode().decode("latin1"))):
        client.get("/metrics", 401, headers=headers)


def test_the_scrapers_key_opens_nothing_else(client: Any) -> None:
    for path in ("/admin", "/users", "/whoami"):
        client.get(path, 401, headers=KEY)


def test_every_request_is_counted_once_whichever_process_answers(client: Any) -> None:
    before = scrape(client)
    for _ in range(30):
        client.get("/stuff/1", 200)
        client.get("/stuff/99", 404)
    after = scrape(client)
    route = next(found[0] for name in after if (found := re.search('method="GET",route="/stuff/<[a-z:]*sid>"', name)))

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown(f'http_requests_total{{{route},status="200"}}') == 30
    assert grown(f'http_requests_total{{{route},status="404"}}') == 30
    assert grown(f"http_request_duration_seconds_count{{{route}}}") == 60
    assert grown(f'http_request_duration_seconds_bucket{{{route},le="+Inf"}}') == 60
    assert grown('stuff_query_seconds_count{query="get_stuff_sid"}') == 60
    assert grown('stuff_query_seconds_sum{query="get_stuff_sid"}') > 0
    assert after['stuff_pool_size{pool="read"}'] > 0
    assert after["stuff_processes"] >= 1
    assert any(name.startswith("stuff_info{version=") and value == 1 for name, value in after.items())


def test_what_happens_at_the_door_is_counted(client: Any, calvin: Any) -> None:
    before = scrape(client)
    client.get("/whoami", 200, headers=calvin)
    client.get("/whoami", 401, headers={"Authorization": "Basic aG9iYmVzOndyb25n"})
    after = scrape(client)
    assert (
        after['stuff_auth_events_total{event="LOGIN_FAILED"}']
        == before.get('stuff_auth_events_total{event="LOGIN_FAILED"}', 0) + 1
    )
    assert sum(value for name, value in after.items() if name.startswith("stuff_password_memory_total")) > 0


@pytest.mark.internal
def test_a_wait_for_a_session_is_counted(client: Any) -> None:
    from database import db
    from engine.db.watch import watch

    before = scrape(client)
    taken = [db.writer.take() for _ in range(db.writer.size)]
    watch.look()
    assert scrape(client)['stuff_pool_in_use{pool="write"}'] == db.writer.size
    threading.Timer(0.05, db.writer.give, [taken.pop()]).start()
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    for session in taken:
        db.writer.give(session)
    watch.look()
    after = scrape(client)
    waits = 'stuff_pool_wait_seconds_count{pool="write"}'
    assert after[waits] == before.get(waits, 0) + 1
    assert after['stuff_pool_wait_seconds_sum{pool="write"}'] > before.get('stuff_pool_wait_seconds_sum{pool="write"}', 0)
    assert after['stuff_pool_in_use{pool="write"}'] == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_finds_no_fault(client: Any) -> None:
    text = client.get("/metrics", 200, headers=KEY).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.internal
def test_a_killed_process_has_still_counted_and_its_heir_adopts_it(tmp_path: Path) -> None:
    from engine.metrics import Counters

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", COUNT, tmp_path / "shared"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        return process

    def end(process: "subprocess.Popen[str]") -> None:
        process.kill()
        process.communicate()

    total, size = 'http_requests_total{method="GET",route="/stuff",status="200"}', 'stuff_pool_size{pool="read"}'
    one, two = start(), start()
    mine = Counters()
    mine.open(str(tmp_path / "shared"))
    seen = series(mine.text())
    assert (seen[total], seen[size], seen["stuff_processes"]) == (2, 8, 3)
    end(one)
    seen = series(mine.text())
    assert (seen[total], seen[size], seen["stuff_processes"]) == (2, 4, 2)
    three = start()
    seen = series(mine.text())
    assert (seen[total], seen[size], seen["stuff_processes"]) == (3, 8, 3)
    assert len(list((tmp_path / "shared").iterdir())) == 4
    assert seen['http_request_duration_seconds_bucket{method="other",route="none",le="10.0"}'] == 0
    assert seen['http_request_duration_seconds_bucket{method="other",route="none",le="+Inf"}'] == 3
    assert seen['http_request_duration_seconds_bucket{method="GET",route="/stuff",le="0.001"}'] == 0
    assert seen['http_request_duration_seconds_bucket{method="GET",route="/stuff",le="0.0025"}'] == 3
    end(two)
    end(three)


@pytest.mark.internal
def test_after_a_fork_each_process_counts_for_itself(tmp_path: Path) -> None:
    from engine.metrics import Counters

    mine = Counters()
    mine.count("stuff_query_errors_total", state="08")  # before it is opened: not lost to handles, but not told
    at = mine.at("stuff_query_seconds", query="q")
    mine.open(str(tmp_path))
    mine.observe(at, 1.0)
    mine.open(str(tmp_path))  # as a child does
    mine.observe(at, 2.0)
    assert series(mine.text())['stuff_query_seconds_sum{query="q"}'] == 3
    assert series(mine.text())['stuff_query_seconds_count{query="q"}'] == 2


@pytest.mark.internal
def test_more_series_than_there_is_room_for_share_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import metrics

    monkeypatch.setattr(metrics, "RECORDS", 3)
    mine = metrics.Counters()
    mine.open(str(tmp_path))
    for state in ("08", "22", "53"):
        mine.count("stuff_query_errors_total", state=state)
    assert sum(value for name, value in series(mine.text()).items() if "errors" in name) == 3


@pytest.mark.internal
def test_the_folder_must_be_ours(tmp_path: Path) -> None:
    from engine.metrics import Counters

    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        Counters().open(str(tmp_path / "link"))


@pytest.mark.internal
def test_what_dead_servers_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import metrics

    monkeypatch.setattr(metrics.os.path, "isdir", lambda _: False)  # type: ignore[attr-defined]
    monkeypatch.setattr(metrics.tempfile, "gettempdir", lambda: str(tmp_path))  # type: ignore[attr-defined]
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (dead.pid, os.getppid(), "foreign"):
        (tmp_path / f"stuff-{os.geteuid()}-{name}").mkdir()
    assert next(metrics._usual()).name.endswith(str(os.getppid()))
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == sorted([str(os.getppid()), "foreign"])


@pytest.mark.internal
def test_a_folder_that_somebody_else_made_is_left_to_him_by_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import metrics

    monkeypatch.setattr(metrics.os.path, "isdir", lambda _: False)  # type: ignore[attr-defined]
    monkeypatch.setattr(metrics.tempfile, "gettempdir", lambda: str(tmp_path))  # type: ignore[attr-defined]
    (tmp_path / f"stuff-{os.geteuid()}-{os.getppid()}").symlink_to(tmp_path)
    one, two = metrics.Counters(), metrics.Counters()
    one.open(None)
    two.open(None)
    assert one.folder == two.folder == tmp_path / f"stuff-{os.geteuid()}-1-{os.getppid()}"
