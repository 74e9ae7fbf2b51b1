"""How a request is seen: its id, its trace, one log line, and more where it is slow or somebody asks. Imported by app."""

import cProfile
import io
import json
import logging
import os
import pstats
import random
import re
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from FlaskSimpleAuth import Flask
from pydantic_core import to_json

from engine.db.reference import db
from engine.http.request import here, there
from engine.metrics import counters
from engine.observe import alarms, tracing
from engine.problem import Problem

TERMINAL = sys.stderr.isatty()
PATH = 256  # characters of a path that are logged
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def start() -> None:
    """Name the request: the client's own X-Request-Id if it is fit, else a new one."""
    own = here()
    if own.started:  # a request that starts over keeps its id
        return
    environ, app = own.environ, own.app
    given = environ.get("HTTP_X_REQUEST_ID")
    own.request_id = given if given and ID.fullmatch(given) else f"{random.getrandbits(80):020x}"
    own.started = time.perf_counter()
    exporter = app.extensions["exporter"]
    header = environ.get("HTTP_TRACEPARENT")
    own.trace = (tracing.read(header) if header else None) or (exporter.begin() if exporter else None)
    if app.config["PROFILING"] and "HTTP_X_PROFILE" in environ and _profiling.acquire(blocking=False):
        own.profile = cProfile.Profile()
        own.profile.enable()


def short(path: str) -> str:
    """The beginning of a path: a client may send 64 KiB of it."""
    return path if len(path) <= PATH else path[:PATH] + "..."


def end(response: Any) -> Any:
    """Tell the client the id, and the log what happened; never a password, a token or a body."""
    own = here()
    app = own.app
    response.add("X-Request-Id", own.request_id)
    rule = own.url_rule.rule.replace("<string:", "<") if own.url_rule else None  # as it was written
    seconds = time.perf_counter() - own.started
    counters.request(own.method, rule, response.status_code, seconds)
    if own.profile:
        own.profile.disable()
        if not own.user and "HTTP_AUTHORIZATION" in own.environ:  # an open route does not ask who calls
            with suppress(Problem):
                app.get_user(required=False)
    conf, more = app.config, {}
    if conf["SERVER_TIMING"]:
        response.headers["Server-Timing"] = ", ".join(
            f"{name};dur={1000 * lasted:.2f}" for name, _, lasted in [*db.ran(), ("total", 0, seconds)]
        )
    if own.trace:
        more["trace"] = own.trace.trace
        response.headers["traceresponse"] = own.trace.header()
        if own.trace.sampled and (exporter := app.extensions["exporter"]):
            about = {"http.request.method": own.method, "http.route": rule, "url.path": short(own.path)}
            about |= {"http.response.status_code": response.status_code, "stuff.request_id": own.request_id}
            exporter.add(own.trace, f"{own.method} {rule or ''}".strip(), own.started, list(db.ran()), **about)
    slow = conf["SLOW_REQUEST"] is not None and seconds > conf["SLOW_REQUEST"]
    if slow:
        more["queries"] = [[name, round(1000 * lasted, 2)] for name, _, lasted in db.ran()]
    told = {
        "id": own.request_id,
        "method": own.method,
        "path": short(own.path),
        "route": rule,
        "status": response.status_code,
        "ms": round(1000 * seconds, 2),
        "login": own.user["login"] if own.user else None,
        "address": own.remote_addr,
    }
    write("WARNING" if slow else "INFO", "slow request" if slow else "request", told | more if more else told)
    return response


_profiling = threading.Lock()  # Python can profile one thread at a time


def profiled(_: BaseException | None) -> None:
    """End the profile of a request, and log it if it was an administrator who asked for it."""
    own = here()
    if own.profile:
        own.profile.disable()
        _profiling.release()
        if own.user and own.user["isadmin"]:
            text = io.StringIO()
            pstats.Stats(own.profile, stream=text).sort_stats("cumulative").print_stats(40)
            write("INFO", "profile", {"id": own.request_id, "profile": text.getvalue()})


plain = False  # whether stacks are written as lines of their own, set by init_app


@lru_cache(1)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def escaped(text: str) -> str:
    """A text without control and format characters, which could forge lines and steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def readable(level: str, event: str, fields: dict[str, Any]) -> str:
    """The line for a terminal; a value that could be taken for several fields is quoted."""
    shown = {name: escaped(str(value)) for name, value in fields.items() if value is not None}
    return f"{level} {event} " + " ".join(
        f"{k}={json.dumps(v, ensure_ascii=False) if ' ' in v else v}" for k, v in shown.items()
    )


def write(level: str, event: str, fields: dict[str, Any]) -> None:
    """One line: JSON, or readable on a terminal. Of a local instance the stack follows, line by line and indented."""
    stack = fields["stack"] if (TERMINAL or plain) and "stack" in fields else None
    if stack:
        fields = {name: value for name, value in fields.items() if name != "stack"}
    if TERMINAL:  # pragma: no cover
        line = readable(level, event, fields)
    else:
        now = time.time()
        said = {"time": f"{_second(int(now))}.{int(now % 1 * 1000):03}Z", "level": level, "event": event, **fields}
        try:
            line = to_json(said, fallback=str).decode()
        except ValueError:  # what is no UTF-8, in somebody's message
            line = json.dumps(said, default=str)
        if not line.isascii():  # JSON escapes the control characters of ASCII, but not the others
            line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
    if stack:
        line += "".join(f"\n  {escaped(one)}" for one in stack.splitlines())
    sys.stderr.write(line + "\n")


class Handler(logging.Handler):
    """Python's logging in the same lines, with the id of the request at hand."""

    def emit(self, record: logging.LogRecord) -> None:
        write(record.levelname, record.name, _told(record))


class Formatter(logging.Formatter):
    """The same for mail and syslog."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"{name}: {value}" for name, value in _told(record).items() if value)


def _told(record: logging.LogRecord) -> dict[str, Any]:
    known = now.request_id if (now := there()) else None
    stack = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
    return {"id": known, "message": record.getMessage(), "stack": stack}


# FlaskSimpleAuth warns of what we mean: the word `authorize`, open routes, schemes of our own, no cache, a plain 404
MEANT = (
    "internal error on ",
    "deprecated use of 'auth",
    "no authenticate on ",
    "overriding authentication",
    "Cache ",
    "none object permission",
)


def told_once(record: logging.LogRecord) -> bool:
    """False for FlaskSimpleAuth's words on a bug, which errors.py logs with its stack, and for Werkzeug's line of a request."""
    said = str(record.msg)
    return not (isinstance(record.msg, BaseException) or said.startswith(MEANT) or said.rstrip().endswith('"%s" %s %s'))


def ours(record: logging.LogRecord) -> bool:
    """False for what is not worth a mail: FlaskSimpleAuth's words on a bug, which errors.py logs."""
    return record.name != "fsa"


def init_app(app: Flask) -> None:
    """Number and log the requests; registered first, so that the line tells what the client was told."""
    global plain
    conf = app.config
    plain = conf["LOCAL"]
    folder = conf["METRICS_FOLDER"]
    counters.open(folder)
    os.register_at_fork(after_in_child=lambda: counters.open(folder))
    root = logging.getLogger()
    root.handlers = [Handler()]
    if conf["MAIL"]:
        failed = lambda why: write("WARNING", "mail", {"message": why})  # noqa: E731
        root.addHandler(alarms.Mail(conf["MAIL"], counters.folder / "told", failed))
    if conf["SYSLOG"]:
        root.addHandler(alarms.syslog(conf["SYSLOG"]))
    for handler in root.handlers[1:]:
        handler.setFormatter(Formatter())
        handler.addFilter(ours)
    versions = {"service.name": app.name, "service.version": conf["VERSION"]}
    app.extensions["exporter"] = conf["TRACES"] and tracing.Exporter(conf["TRACES"], conf["TRACES_RATIO"], versions)
    root.setLevel(app.config["LOG_LEVEL"])
    for name in ("fsa", "werkzeug"):
        logging.getLogger(name).addFilter(told_once)
    for name in ("anodb", "aiosql", "fsa"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if conf["PROFILING"]:
        app.teardown_request(profiled)
