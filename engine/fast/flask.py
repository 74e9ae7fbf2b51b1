"""A leaner Flask: stand-ins for what Flask, Werkzeug and FlaskSimpleAuth do at every request, by names that they keep private.

What is left out is what this server has no use for: asynchronous views, a session's cookies, subdomains, signals, the parsing
of bodies and query strings that are not there. All else is the same: tests/test_fast.py holds it, and docs/performance.md says
what it saves. Proven for the versions in engine/fast/__init__.py; without it engine/http/flask.py serves.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from http import HTTPStatus
from operator import attrgetter
from typing import Any, NamedTuple, cast

import flask
import FlaskSimpleAuth as fsa  # noqa: N813
from flask.ctx import RequestContext, _AppCtxGlobals
from flask.globals import _cv_app, _cv_request
from flask.sessions import NullSession
from werkzeug.datastructures import CombinedMultiDict, EnvironHeaders, Headers, ImmutableMultiDict
from werkzeug.routing import MapAdapter
from werkzeug.sansio.response import Response as Sans
from werkzeug.utils import cached_property

from engine.http import errors
from engine.http import flask as plain
from engine.http import request as current
from engine.http import response as answers
from engine.http.request import here
from engine.problem import Problem

NOTHING: ImmutableMultiDict[str, Any] = ImmutableMultiDict()
NO_SESSION = NullSession()
LINES = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}


def decoded(raw: str) -> str:
    """A text of the WSGI environment, whose bytes come as Latin-1 (PEP 3333)."""
    return raw.encode("latin1").decode(errors="replace")


class Request(current.Request):
    """A request that does not parse what did not come."""

    hooks: "Hooks"
    is_json = False
    has_body = False

    def __init__(self, environ: Any, populate_request: bool = True, shallow: bool = False) -> None:
        self.environ, self.shallow = environ, shallow
        if populate_request and not shallow:
            environ["werkzeug.request"] = self
        self.method = environ.get("REQUEST_METHOD", "GET").upper()
        self.scheme = environ.get("wsgi.url_scheme", "http")
        root, path = environ.get("SCRIPT_NAME") or "", environ.get("PATH_INFO") or ""
        self.root_path = (root if root.isascii() else decoded(root)).rstrip("/")
        self.path = "/" + (path if path.isascii() else decoded(path)).lstrip("/")
        self.query_string = environ.get("QUERY_STRING", "").encode("latin1")
        self.remote_addr = environ.get("REMOTE_ADDR")
        if environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ:
            self.has_body = True
            self.is_json = environ.get("CONTENT_TYPE") == "application/json" or flask.Request.is_json.fget(self)  # type: ignore

    @cached_property
    def headers(self) -> EnvironHeaders:  # type: ignore[override]
        return EnvironHeaders(self.environ)

    @cached_property
    def server(self) -> tuple[str, int | None] | None:
        return self.environ["SERVER_NAME"], int(self.environ["SERVER_PORT"])

    @cached_property
    def args(self) -> Any:
        return super().args if self.query_string else NOTHING


class Response(answers.Response):
    """An answer that is complete is handed over as it is."""

    status_code = property(attrgetter("_status_code"), vars(Sans)["status_code"].fset)

    @classmethod
    def of(cls, body: bytes, status: int, kind: str, etag: str | None = None) -> "Response":
        """An answer made at once of its body, status code, media type and ETag."""
        self = cls.__new__(cls)
        self.headers = Headers.__new__(Headers)
        self.headers._list = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if etag is not None:
            self.headers._list.append(("ETag", f'"{etag}"'))
        self._status, self._status_code = LINES[status], status
        self.response, self.direct_passthrough, self._on_close = [body], False, []
        return self

    def add(self, name: str, value: str) -> None:
        self.headers._list.append((name, value))

    def names(self) -> dict[str, str]:
        return dict(self.headers._list)

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = self.response
        if (
            self._status_code not in (200, 201)
            or environ["REQUEST_METHOD"] == "HEAD"
            or self._on_close
            or type(body) is not list
        ):
            return super().__call__(environ, start_response)
        start_response(self._status, self.headers._list)
        return body


class Globals(_AppCtxGlobals):
    """Flask's `g`, whose attributes are set as those of any object."""

    __setattr__ = object.__setattr__  # type: ignore[assignment]


class AppContext(flask.ctx.AppContext):
    """An application's context, of which no signal tells."""

    def __init__(self, app: flask.Flask) -> None:
        self.app, self.g = app, app.app_ctx_globals_class()
        self._cv_tokens = []

    @cached_property
    def url_adapter(self) -> MapAdapter | None:
        return self.app.create_url_adapter(None)

    def push(self) -> None:
        self._cv_tokens.append(_cv_app.set(self))

    def pop(self, exc: BaseException | None = None) -> None:
        token = self._cv_tokens.pop()
        try:
            if self.app.teardown_appcontext_funcs and not self._cv_tokens:
                self.app.do_teardown_appcontext(exc)
        finally:
            _cv_app.reset(token)


class Context(RequestContext):
    """A request's context, which has no session and remembers which rule a path leads to."""

    app: "Flask"
    request: Request

    def __init__(self, app: "Flask", environ: Any) -> None:
        self.app, self.request = app, app.request_class(environ)
        self.request.json_module = app.json
        self.request.enter(app)
        self._session, self.flashes = NO_SESSION, None
        self._after_request_functions, self._cv_tokens = [], []

    @cached_property
    def url_adapter(self) -> MapAdapter | None:
        return self.app.create_url_adapter(self.request)

    def push(self) -> None:
        outer: Any = _cv_app.get(None)
        inner = None if outer and outer.app is self.app else AppContext(self.app)
        if inner:
            inner._cv_tokens.append(_cv_app.set(inner))
        self._cv_tokens.append((_cv_request.set(self), inner))
        asked = self.request
        if found := self.app.known.get((asked.method, asked.path)):
            asked.url_rule, asked.view_args, asked.hooks = found[0], dict(found[1]), found[2]
        else:
            self.match_request()
        asked.route = asked.hooks.route

    def pop(self, exc: BaseException | None = None) -> None:
        token, inner = self._cv_tokens.pop()
        try:
            if not self._cv_tokens:
                for hook in self.request.hooks.over:
                    hook(exc)
                if "files" in self.request.__dict__:
                    self.request.close()
                self.request.environ["werkzeug.request"] = None  # a cycle, which would be left to the collector
                self.request.leave()
        finally:
            _cv_request.reset(token)
            if inner:
                inner.pop(exc)

    def match_request(self) -> None:
        super().match_request()
        asked, known = self.request, self.app.known
        asked.hooks = self.app.hooks(asked)
        if asked.url_rule and asked.view_args is not None and len(asked.path) <= 200:  # 1,000 of 64 KiB would be much
            if len(known) >= 1000:
                known.clear()
            known[asked.method, asked.path] = asked.url_rule, dict(asked.view_args), asked.hooks


class Hooks(NamedTuple):
    """A route, if there is one, and what runs around it: before it, after it, and when all is over."""

    route: Callable[..., Any] | None
    before: tuple[Callable[[], Any], ...]
    after: tuple[Callable[[flask.Response], flask.Response], ...]
    over: tuple[Callable[[BaseException | None], Any], ...]


class Flask(plain.Flask):
    """Our Flask, leaner."""

    request_class = Request
    response_class = Response
    app_ctx_globals_class = Globals

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known: dict[tuple[str, str], tuple[Any, dict[str, Any], Hooks]] = {}
        self._hooks: dict[str | None, Hooks] = {}
        self._nobody: dict[str, Any] = {}
        self._whole = self._fsa._pm._parameters
        self._fsa._pm._params, self._fsa._pm._parameters = self._given, self._parameters

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Views and hooks are plain functions."""
        return func

    def request_context(self, environ: Any) -> Context:
        return Context(self, environ)

    def app_context(self) -> AppContext:
        return AppContext(self)

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

    def _given(self) -> Any:
        """The parameters as FlaskSimpleAuth collects them, from those places alone where there are any."""
        asked = here()
        if not asked.has_body:
            self._fsa._local.params = "http"
            return asked.args if asked.query_string else NOTHING
        if asked.is_json:
            self._fsa._local.params = "json"
            return CombinedMultiDict([asked.json, asked.args]) if asked.query_string else asked.json
        self._fsa._local.params = "http"
        return CombinedMultiDict([asked.args, asked.form, asked.files])

    def _parameters(self, path: str, is_open: bool, is_special: bool = False) -> Callable[..., Any]:
        """What reads the parameters of a route: FlaskSimpleAuth, but not where they are in the path or in JSON, and all fit."""
        manager = self._fsa._pm
        whole, special, casts = self._whole(path, is_open, is_special), manager._special_parameters, manager._casts
        if is_special:
            return cast(Callable[..., Any], whole)

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            read, plan = whole(view), []
            for name, one in inspect.signature(view).parameters.items():
                kind = one.annotation
                found = special.get(fsa._typeof(one))
                ours = isinstance(kind, type) and issubclass(kind, (int, str)) and kind.__module__ != "builtins"
                if found or kind in casts or name.startswith("_"):  # which is not the name in a request
                    ours = False
                plan.append((name, found, kind if ours else None, one.default))

            @wraps(view)
            def run(**given: Any) -> Any:
                asked = here()
                if asked.query_string or (asked.has_body and not asked.is_json):
                    return read(**given)
                try:
                    body = asked.get_json() if asked.has_body else None
                    came, values = {**body, **given} if body is not None else given, {}
                    for name, found, kind, default in plan:
                        if found and name not in came:
                            values[name] = found(name)
                        elif name in came and kind:
                            values[name] = kind(came[name])
                        elif name not in came and default is not inspect.Parameter.empty:
                            values[name] = default
                        else:
                            return read(**given)
                except (Exception, fsa.ErrorResponse):
                    return read(**given)  # which says what is not fit
                if not came.keys() <= values.keys() or (body is not None and not given.keys().isdisjoint(body)):
                    return read(**given)
                return view(**values)

            return run

        return decorate

    def forget(self) -> None:
        """Nobody is known to call yet."""
        self._fsa._local.__dict__.update(self._nobody)

    def _begun(self) -> Any:
        """What FlaskSimpleAuth does before a request: forget who called, refuse what came in the clear from elsewhere."""
        self.forget()
        environ = here().environ
        if environ["wsgi.url_scheme"] == "https" or (environ.get("REMOTE_ADDR") or "127.").startswith("127."):
            return None
        return self._fsa._qm._check_secure()

    def _checked(self, response: flask.Response) -> flask.Response:
        """What FlaskSimpleAuth does after a request: it names its schemes with a 401, and sees that rights were checked."""
        fsa, status = self._fsa, response._status_code
        if status == 401:
            return cast(flask.Response, fsa._am._set_www_authenticate(response))
        return response if status >= 400 or not fsa._local.need_authorization else fsa._rm._auth_post_check(response)

    def _arranged(self, asked: flask.Request) -> Hooks:
        """The hooks of a request in the order in which they run, without those that do nothing here."""
        fsa = self._fsa
        fsa._qm._auth_reset_user()
        self._nobody = dict(fsa._local.__dict__)
        instead = {
            fsa._qm._auth_reset_user: self._begun,
            fsa._qm._check_secure: None,
            fsa._am._set_www_authenticate: None,
            fsa._rm._auth_post_check: self._checked,
        }
        if fsa._mode.name in ("UNDEF", "PROD"):
            instead[fsa._qm._show_request] = None
        if not fsa._qm._before_requests:
            instead[fsa._qm._run_before_requests] = None
        if not fsa._rm._after_requests:
            instead[fsa._rm._run_after_requests] = None

        def found(hooks: dict[Any, Any]) -> list[Any]:
            names = None, *reversed(asked.blueprints)
            return [lean for name in names for hook in hooks.get(name, ()) if (lean := instead.get(hook, hook))]

        return Hooks(
            self.view_functions[asked.url_rule.endpoint] if asked.url_rule else None,
            (*self.first, *found(self.before_request_funcs)),
            (*reversed(found(self.after_request_funcs)), *self.last),
            tuple(reversed(found(self.teardown_request_funcs))),
        )

    def hooks(self, asked: flask.Request) -> Hooks:
        """The hooks of a request."""
        endpoint = asked.url_rule.endpoint if asked.url_rule else None
        if endpoint not in self._hooks:
            self._hooks[endpoint] = self._arranged(asked)
        return self._hooks[endpoint]

    def start_over(self, *context: Any) -> None:
        """Who calls is found out anew."""
        self.forget()
        here().user = None

    def full_dispatch_request(self, *context: Any) -> Any:
        """The hooks before, the route, the hooks after."""
        self._got_first_request = True
        try:
            for hook in here().hooks.before:  # type: ignore[attr-defined]
                if (answer := hook()) is not None:
                    break
            else:
                answer = self.dispatch_request()
        except Problem as problem:
            answer = errors.from_problem(problem)
        except Exception as error:
            answer = self.handle_user_exception(error)
        return self.process_response(self.make_response(answer))

    def process_response(self, *args: Any) -> Any:
        """The hooks after a request."""
        response = args[-1]
        for hook in (*_cv_request.get()._after_request_functions, *here().hooks.after):  # type: ignore[attr-defined]
            try:
                response = hook(response)
            except Problem as problem:
                response = errors.from_problem(problem)
        return response
