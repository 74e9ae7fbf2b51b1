"""Plain pytest: its defaults, and the refusal to test a server on another database."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from conftest import HERE

pytestmark = pytest.mark.internal
OURS = {"FLASK_TESTER_APP", "APP_CONFIG", "BCRYPT_COST"}


class Elsewhere(BaseHTTPRequestHandler):
    """A server whose database has a schema of its own; it keeps the requests that it got."""

    asked: ClassVar[list[str]] = []
    answer: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.asked.append(self.requestline)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The URL of one."""
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Elsewhere.asked.clear()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as from an activated environment, where nothing of ours is set but the database."""
    env = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("COV")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=HERE, env=env | settings, capture_output=True, text=True, timeout=60)


def test_the_environment_needs_to_say_nothing() -> None:
    done = run("tests/test_system.py", "-k", "test_live_and_ready")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("answer", [json.dumps({"schema": 1}).encode(), b"[]", b"not JSON"])
def test_a_server_on_another_database_is_refused_before_anything_is_written(
    elsewhere: str, sql: Any, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(Elsewhere, "answer", answer)
    sql("INSERT INTO Stuff(stuff) VALUES ('not emptied')")
    before = sql("SELECT version, name FROM Schema_Version")
    done = run(FLASK_TESTER_APP=elsewhere)
    assert done.returncode == 3, done.stdout + done.stderr
    assert elsewhere in done.stderr + done.stdout
    assert Elsewhere.asked == ["GET /version HTTP/1.1"]
    assert sql("SELECT version, name FROM Schema_Version") == before
    assert sql("SELECT stuff FROM Stuff WHERE stuff = 'not emptied'")
