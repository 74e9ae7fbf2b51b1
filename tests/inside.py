"""What looks into a process, and starts others with a configuration of their own; for tests that are internal."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import HERE


def warm(pool: Any, statement: Any, *values: bytes) -> list[Any]:
    """Have every session of a pool run a statement; the sessions."""
    sessions = [pool.take() for _ in range(pool.size)]
    for session in sessions:
        session.run(statement, list(values))
        pool.give(session)
    return sessions


def series(text: str) -> dict[str, float]:
    """Every series of a text for Prometheus, and its value."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def counted(name: str) -> dict[str, float]:
    """What this process has counted under a name, by its one label."""
    from engine.metrics import counters

    return {key.split('"')[1]: value for key, value in series(counters.text()).items() if key.startswith(name + "{")}


def trace(session: Any, file: Path) -> Callable[[], list[str]]:
    """Have libpq write to a file what a session sends; what ends that, and tells the statements of each round trip."""
    out = file.open("w")
    session.pg.trace(out.fileno())
    session.pg.set_trace_flags(1)  # no times: PQTRACE_SUPPRESS_TIMESTAMPS

    def end() -> list[str]:
        session.pg.untrace()
        out.close()
        sent = re.split(r"^B.*\n(?!B)", file.read_text(), flags=re.MULTILINE)  # until the server has had its say
        return [" ".join(_statements(part)) for part in sent if part]

    return end


def _statements(part: str) -> list[str]:
    """The names of what was sent: of those that are not prepared, by their text."""
    from database import db

    names = re.findall(r'^F\t\d+\tBind\t "" "(\w+)"', part, re.MULTILINE)
    return names + [name for name, text in db.queries.items() if f'Parse\t "" "{text}"' in part]


def environment(folder: Path, base: Path = HERE / "app.conf", **settings: Any) -> dict[str, str]:
    """That of a process with a configuration of its own, in a folder: another one's, with other settings."""
    lines = [f"__file__ = {str(base)!r}", "exec(open(__file__).read())", *(f"{k} = {v!r}" for k, v in settings.items())]
    (folder / "some.conf").write_text("\n".join(lines))
    return os.environ | {"APP_CONFIG": str(folder / "some.conf")}


def answers(code: str, requests: Any, env: dict[str, str]) -> list[Any]:
    """What a process in that environment, whose code reads requests as JSON, writes as lines of JSON."""
    command, sent = [sys.executable, "-c", code], json.dumps(requests)
    run = subprocess.run(command, cwd=HERE, env=env, input=sent, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
