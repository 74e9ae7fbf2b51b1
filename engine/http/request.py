"""The current request. Hooks find in it what belongs to it: its application, its user, its id.

`here()` gives it without Flask's proxies, each use of which costs an exception in Python 3.11.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import flask
from werkzeug.exceptions import BadRequest

_current: ContextVar["Request | None"] = ContextVar("request", default=None)
here = cast("Callable[[], Request]", _current.get)
there = cast("Callable[[], Request | None]", _current.get)  # for what may run without a request


class Request(flask.Request):
    """Flask's request and what our hooks keep of it; no body is no malformed JSON."""

    app: Any
    route: Callable[..., Any] | None = None  # the view, if the path leads to one
    user: dict[str, Any] | None = None  # who calls, once known
    assumption: Any = None  # of the caller's row
    request_id: str | None = None
    started = 0.0  # in the seconds of `time.perf_counter()`
    trace: Any = None
    profile: Any = None
    outer: "Request | None" = None  # the one that was current before

    @property
    def has_body(self) -> bool:
        """A body comes with the request (RFC 9112 6.3)."""
        return self.environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in self.environ

    @property
    def is_json(self) -> bool:
        return self.has_body and super().is_json

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        read = self.environ.get("engine.body")  # read by bodies.py
        return super().get_data(*args, **kwargs) if read is None or kwargs.keys() - {"cache"} else read

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        raise BadRequest("the request body is not valid JSON")

    def enter(self, app: Any) -> None:
        """Be the current request of this thread."""
        self.app, self.outer = app, _current.get()
        _current.set(self)

    def leave(self) -> None:
        """Let the request before be current again."""
        _current.set(self.outer)
