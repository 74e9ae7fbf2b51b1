"""Rates: how often a route with `declare(limit="30/minute")` may be called, by a caller or, where it is open, an address.

They are counted where attempts at passwords are, for all servers; routes that declare none cost nothing.
"""

import re
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, NoReturn

from FlaskSimpleAuth import Response

from engine.auth.address import address
from engine.auth.attempts import Attempts
from engine.http.request import here
from engine.problem import Problem

PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


def parse(rate: str) -> tuple[int, int]:
    """How many requests in how many seconds a rate such as 30/minute allows.

    :raises ValueError: it is none.
    """
    if not (found := re.fullmatch(f"([1-9][0-9]{{0,8}})/({'|'.join(PERIODS)})", rate)):
        raise ValueError(f"no rate such as 30/minute: {rate!r}")
    return int(found[1]), PERIODS[found[2]]


def told(policy: str, most: int, period: int, left: int, wait: int) -> dict[str, str]:
    """The headers that tell a rate: its policy, how many are left, and the seconds until the period ends."""
    return {"RateLimit-Policy": f'"{policy}";q={most};w={period}', "RateLimit": f'"{policy}";r={left};t={wait}'}


def refuse(policy: str, most: int, period: int, wait: int) -> NoReturn:
    """Refuse one that is too many.

    :raises Problem: 429.
    """
    raise Problem(429, headers={"Retry-After": str(wait), **told(policy, most, period, 0, wait)})


class Limited:
    """A view that counts first; by then the request is known to be allowed and well-formed.

    NOTE an object, as FlaskSimpleAuth looks at the code of a view, which a wrapping function would hide.
    """

    def __init__(self, view: Callable[..., Any], attempts: Callable[[], Attempts]) -> None:
        update_wrapper(self, view)
        self.view, self.__code__, self.attempts = view, view.__code__, attempts
        stated = view.__dict__["declared"]
        self.most, self.period = parse(stated["limit"])
        self.by_address = stated.get("by") == "address"

    def __call__(self, **parameters: Any) -> Any:
        now = here()
        user = None if self.by_address else now.user
        name = self.view.__name__
        who = f"u{user['id']}" if user else address()
        made, wait = self.attempts().add_one(f"r {name} {who}", self.period)
        if made > self.most:
            refuse(name, self.most, self.period, wait)
        return _with(self.view(**parameters), told(name, self.most, self.period, self.most - made, wait))


def _with(answer: Any, headers: dict[str, str]) -> Any:
    if isinstance(answer, Response):
        answer.headers.update(headers)
        return answer
    value, status, own = (*answer, None, None)[:3] if isinstance(answer, tuple) else (answer, None, None)
    return value, status, {**(own or {}), **headers}


def init_app(app: Any) -> None:
    """Count before each view that declares a rate."""
    app.watch_routes(partial(_register, lambda: app.extensions["auth"].passwords.attempts))


def _register(attempts: Callable[[], Attempts], register: Callable[..., Any]) -> Callable[..., Any]:
    def add_url_rule(rule: str, endpoint: Any = None, view_func: Any = None, **options: Any) -> Any:
        if "limit" in getattr(view_func, "declared", {}):
            view_func = Limited(view_func, attempts)
        return register(rule, endpoint=endpoint, view_func=view_func, **options)

    return add_url_rule
