"""FlaskSimpleAuth's Flask with our hooks, our way of asking again and of answering; by documented names alone.

Flask 3.2 hands its context to the methods that are overridden here as a first argument: it is passed on.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import flask
import FlaskSimpleAuth as fsa  # noqa: N813
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from engine.db.reference import db
from engine.http import errors, wire
from engine.http.request import Request, here
from engine.http.response import Response
from engine.problem import Problem

TRIES = 2, 1, 0  # how many runs are left of a request whose transaction was undone through no fault of its own
Register = Callable[..., Any]
View = TypeVar("View", bound=Callable[..., Any])


class Flask(fsa.Flask):  # type: ignore[misc]
    """An application whose own hooks come first before a request, and last after it.

    `first` are called in their order, and answer nothing. `last` are given the answer in their order, when all other hooks have
    seen it, and give it back. Any hook but the first may raise a Problem.
    """

    request_class = Request
    response_class = Response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first: list[Callable[[], None]] = []
        self.last: list[Callable[[Any], Any]] = []
        self.route = self._route
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(self, method.lower(), partial(self._route, methods=[method]))

    def _route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Register a view through what watches registrations: FlaskSimpleAuth's own decorators pass it by."""

        def decorate(view: View) -> View:
            self.add_url_rule(rule, view_func=view, **options)
            return view

        return decorate

    def watch_routes(self, watch: Callable[[Register], Register]) -> None:
        """Have all routes that are registered from now on go through a wrapper of `add_url_rule`."""
        self.add_url_rule: Register = watch(self.add_url_rule)

    def request_context(self, environ: Any) -> Any:
        context = super().request_context(environ)
        context.request.enter(self)
        return context

    def do_teardown_request(self, *args: Any) -> None:
        try:
            super().do_teardown_request(*args)
        finally:
            here().leave()

    def preprocess_request(self, *context: Any) -> Any:
        request = here()
        request.route = self.view_functions.get(request.endpoint)
        try:
            for hook in self.first:
                hook()
            return super().preprocess_request(*context)
        except Problem as problem:
            return errors.from_problem(problem)

    def dispatch_request(self, *context: Any) -> Any:
        """Run the route; when its transaction was undone for no reason of its own, run it again."""
        request = here()
        route, found = request.route, request.view_args
        if route is None or found is None or request.method == "OPTIONS":
            return super().dispatch_request(*context)
        for left in TRIES:
            try:
                try:
                    answer = route(**found)
                    if type(answer) is list:
                        wire.check_many(route)
                except Problem as problem:
                    if problem.status >= 500:
                        raise
                    answer = errors.from_problem(problem)
                db.verify()  # first who calls, then what is wrong with it
                return answer
            except Problem as problem:
                db.rollback()
                if not (problem.retry and left):
                    return errors.from_problem(problem)
                if (refused := self.start_over(*context)) is not None:
                    return refused
        raise AssertionError("unreachable")  # pragma: no cover

    def start_over(self, *context: Any) -> Any:
        """Run the hooks before a request once more: who calls is found out anew."""
        db.release()
        here().user = None
        return self.preprocess_request(*context)

    def make_default_options_response(self, *context: Any) -> flask.Response:
        """The methods of a path, in Allow."""
        response = wire.empty(200)
        response.allow.update(super().make_default_options_response(*context).allow)
        return response

    def make_response(self, rv: Any) -> Any:
        """Turn a route's value into an answer."""
        if isinstance(rv, HTTPException):  # a redirection to the route with a slash
            rv = rv.get_response(here().environ)
        if isinstance(rv, WerkzeugResponse):
            return rv if isinstance(rv, Response) else self.response_class.force_type(rv, here().environ)
        value, status, headers = (*rv, None, None)[:3] if isinstance(rv, tuple) else (rv, None, None)
        if isinstance(value, str) and (status or 200) >= 400:  # how FlaskSimpleAuth refuses
            return errors.answer(value, status or 400)
        response = wire.answer(value, status or (204 if value is None else 200))
        for name, text in (headers or wire.NONE).items():
            response.headers.add(name, text)
        return response

    def process_response(self, *args: Any) -> Any:
        try:
            response = super().process_response(*args)
        except Problem as problem:
            response = errors.from_problem(problem)
        return self.finish(response)

    def finish(self, response: Any) -> Any:
        """Give the answer to the hooks that come last."""
        for hook in self.last:
            try:
                response = hook(response)
            except Problem as problem:
                response = errors.from_problem(problem)
        return response
