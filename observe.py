"""How a request is seen: its id, one log line, and the version and state of the server. Imported by app."""

import json
import logging
import os
import re
import sys
import time
from typing import Any

from flask import g, has_request_context
from FlaskSimpleAuth import Flask, Response, request

from metrics import counters

ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def start() -> None:
    """Name the request: the client's own X-Request-Id if it is fit, else a new one."""
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = given if ID.fullmatch(given) else os.urandom(10).hex()
    g.started = time.perf_counter()


def end(response: Response) -> Response:
    """Tell the client the id, and the log what happened; never a password, a token or a body."""
    response.headers["X-Request-Id"] = g.request_id
    rule = request.url_rule.rule if request.url_rule else None
    seconds = time.perf_counter() - g.started
    counters.request(request.method, rule, response.status_code, seconds)
    write(
        "INFO",
        "request",
        id=g.request_id,
        method=request.method,
        path=request.path,
        route=rule,
        status=response.status_code,
        ms=round(1000 * seconds, 2),
        login=g.user["login"] if "user" in g else None,
        address=request.remote_addr,
    )
    return response


def write(level: str, event: str, **fields: Any) -> None:
    """One line: JSON, or readable on a terminal."""
    now = time.time()
    if sys.stderr.isatty():  # pragma: no cover
        line = f"{level} {event} " + " ".join(f"{k}={v}" for k, v in fields.items() if v is not None)
    else:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        line = json.dumps({"time": stamp, "level": level, "event": event, **fields}, default=str)
    sys.stderr.write(line + "\n")


class Handler(logging.Handler):
    """Python's logging in the same lines, with the id of the request at hand."""

    def emit(self, record: logging.LogRecord) -> None:
        known = g.get("request_id") if has_request_context() else None
        stack = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        write(record.levelname, record.name, id=known, message=record.getMessage(), stack=stack)


# FlaskSimpleAuth warns of what we mean: the word `authorize`, open routes, schemes of our own, no cache, a plain 404
MEANT = ("deprecated use of 'auth", "no authenticate on ", "overriding authentication", "Cache ", "none object permission")


def init_app(app: Flask) -> None:
    """Number and log the requests; registered first, so that the line tells what the client was told."""
    folder = app.config.setdefault("METRICS_FOLDER", None)
    counters.open(folder)
    os.register_at_fork(after_in_child=lambda: counters.open(folder))
    root = logging.getLogger()
    root.handlers = [Handler()]
    root.setLevel(app.config["LOG_LEVEL"])
    logging.getLogger("fsa").addFilter(lambda record: not str(record.msg).startswith(MEANT))
    for name in ("anodb", "aiosql", "fsa"):
        logging.getLogger(name).setLevel(logging.WARNING)
    app.before_request_funcs[None].insert(0, start)  # before FlaskSimpleAuth's own, which may refuse
    app.after_request(end)
