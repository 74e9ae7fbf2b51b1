"""Leaner stand-ins for what Flask and Werkzeug do at every request, through the points they offer for it. Imported by wire.

What is left out is what this server has no use for: asynchronous views, a session's cookies, subdomains, signals to hooks,
the parsing of bodies and query strings that are not there. All else is the same: tests/test_lean.py holds it, and
docs/performance.md says what it saves.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import flask
import FlaskSimpleAuth as fsa  # noqa: N813
from flask.ctx import RequestContext
from flask.sessions import NullSession, SessionInterface
from FlaskSimpleAuth import request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.routing import MapAdapter
from werkzeug.utils import cached_property

NOTHING: ImmutableMultiDict[str, Any] = ImmutableMultiDict()


class Request(flask.Request):
    """A request that does not parse what did not come."""

    @cached_property
    def has_body(self) -> bool:
        """Whether a body comes with the request (RFC 9112 6.3)."""
        return self.environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in self.environ

    @cached_property
    def args(self) -> Any:
        return super().args if self.query_string else NOTHING

    def _load_form_data(self) -> None:
        if self.has_body:
            super()._load_form_data()
        else:
            self.__dict__["form"] = self.__dict__["files"] = NOTHING

    @cached_property
    def blueprints(self) -> list[str]:
        return super().blueprints


class Response(flask.Response):
    """An answer that is complete is handed over as it is."""

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = self.response
        if (
            self._status_code not in (200, 201)
            or environ["REQUEST_METHOD"] == "HEAD"
            or self._on_close
            or type(body) is not list
        ):
            return super().__call__(environ, start_response)
        start_response(self._status, self.headers.to_wsgi_list())
        return body


class NoSession(SessionInterface):
    """No cookie is read or written."""

    session = NullSession()

    def open_session(self, app: flask.Flask, request: flask.Request) -> NullSession:
        return self.session


class Context(RequestContext):
    """A request's context that remembers which rule a path leads to."""

    def match_request(self) -> None:
        asked, known = self.request, cast(Flask, self.app).known
        key = asked.method, asked.path
        if found := known.get(key):
            asked.url_rule, asked.view_args = found[0], dict(found[1])
            return
        super().match_request()
        if asked.url_rule and asked.view_args is not None:
            if len(known) >= 1000:
                known.clear()
            known[key] = asked.url_rule, dict(asked.view_args)


class Flask(fsa.Flask):  # type: ignore[misc]
    """FlaskSimpleAuth's Flask, leaner."""

    request_class = Request
    response_class = Response
    session_interface = NoSession()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Views and hooks are plain functions."""
        return func

    def request_context(self, environ: Any) -> "Context":
        return Context(self, environ)

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """What matches the request's URL: whatever the host, there are no subdomains."""
        if request is None:
            return cast(MapAdapter | None, super().create_url_adapter(request))
        environ = request.environ
        return MapAdapter(
            self.url_map,
            environ.get("HTTP_HOST", ""),
            request.root_path,
            "",
            request.scheme,
            request.path,
            request.method,
            environ.get("QUERY_STRING", ""),
        )

    def dispatch_request(self) -> Any:
        """Run the route that the request leads to."""
        asked = request._get_current_object()
        if asked.routing_exception is not None or asked.method == "OPTIONS":
            return super().dispatch_request()
        return self.view_functions[asked.url_rule.endpoint](**asked.view_args)

    def preprocess_request(self) -> Any:
        """The hooks before a request, until one answers."""
        for name in (None, *reversed(request._get_current_object().blueprints)):
            for hook in self.before_request_funcs.get(name, ()):
                if (answer := hook()) is not None:
                    return answer
        return None

    def process_response(self, response: Any) -> Any:
        """The hooks after a request, the last one first."""
        for name in (*request._get_current_object().blueprints, None):
            for hook in reversed(self.after_request_funcs.get(name, ())):
                response = hook(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """The hooks when all is over."""
        for name in (*request._get_current_object().blueprints, None):
            for hook in reversed(self.teardown_request_funcs.get(name, ())):
                hook(exc)
