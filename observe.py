"""How a request is seen: its id, one log line, and the version and state of the server. Imported by app."""

import json
import logging
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from flask import g, has_request_context
from FlaskSimpleAuth import Flask, Response, request

from metrics import counters

TERMINAL = sys.stderr.isatty()
ENCODER = json.JSONEncoder(default=str)  # json.dumps makes one each time
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def start() -> None:
    """Name the request: the client's own X-Request-Id if it is fit, else a new one."""
    here, given = g._get_current_object(), request._get_current_object().environ.get("HTTP_X_REQUEST_ID", "")
    here.request_id = given if given and ID.fullmatch(given) else os.urandom(10).hex()
    here.started = time.perf_counter()


def end(response: Response) -> Response:
    """Tell the client the id, and the log what happened; never a password, a token or a body."""
    here, at = g._get_current_object(), request._get_current_object()
    response.headers.add("X-Request-Id", here.request_id)
    rule = at.url_rule.rule if at.url_rule else None
    seconds = time.perf_counter() - here.started
    counters.request(at.method, rule, response.status_code, seconds)
    write(
        "INFO",
        "request",
        id=here.request_id,
        method=at.method,
        path=at.path,
        route=rule,
        status=response.status_code,
        ms=round(1000 * seconds, 2),
        login=here.user["login"] if "user" in here else None,
        address=at.remote_addr,
    )
    return response


def write(level: str, event: str, **fields: Any) -> None:
    """One line: JSON, or readable on a terminal."""
    if TERMINAL:  # pragma: no cover
        line = f"{level} {event} " + " ".join(f"{k}={v}" for k, v in fields.items() if v is not None)
    else:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        line = ENCODER.encode({"time": stamp, "level": level, "event": event, **fields})
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
