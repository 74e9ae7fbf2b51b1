"""Requests of web pages from elsewhere (CORS of the Fetch standard): their browsers refuse all but those of configured origins.

No Access-Control-Allow-Credentials: that is for cookies. A page sends Authorization itself, and Consistency-Token.
"""

import re

from FlaskSimpleAuth import Flask, Response, request

from engine.http import errors
from engine.http.request import here
from engine.http.transaction import READS
from engine.http.wire import empty
from engine.problem import SPECIFIC, Problem

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")
REQUEST_HEADERS = (
    "Authorization, Consistency-Token, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, X-OTP, X-Request-Id, "
    "traceparent, tracestate"
)
RESPONSE_HEADERS = (
    "Consistency-Token, Content-Range, Deprecation, ETag, Idempotency-Replayed, Link, Location, Preference-Applied, RateLimit, "
    "RateLimit-Policy, Retry-After, Sunset, WWW-Authenticate, X-Request-Id"
)
MAX_AGE = "600"  # seconds a browser may remember a preflight


def allow(response: Response) -> Response:
    """Tell a browser that pages of this origin may read the answer, and before that, send the request."""
    origins = here().app.config["CORS_ORIGINS"]
    headers = response.headers
    response.vary.add("Origin")
    if request.headers.get("Origin") in origins:
        headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            headers["Access-Control-Allow-Methods"] = headers.get("Allow") or request.headers["Access-Control-Request-Method"]
            headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
            headers["Access-Control-Max-Age"] = MAX_AGE
    return response


def refuse() -> Response | None:
    """Refuse what a page of another site has a browser send, with the credentials that it remembers of its user.

    A browser says whence in Sec-Fetch-Site, an old one in Origin alone; a client that is none says neither.
    """
    asked = here()
    site, origin = asked.environ.get("HTTP_SEC_FETCH_SITE"), asked.environ.get("HTTP_ORIGIN")
    if (site is None and origin is None) or asked.method in READS or origin in asked.app.config["CORS_ORIGINS"]:
        return None
    if site in ("same-origin", "none") or (site is None and origin and origin.partition("://")[2] == asked.host):
        return None
    return errors.from_problem(Problem(403, SPECIFIC["cross_site"][1], "cross_site"))


def preflight() -> Response | None:
    """Answer a preflight on a path that is no route, so that the request itself comes and the page is told 404."""
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and request.routing_exception:
        return empty(204)
    return None


def faults(origins: list[str]) -> list[str]:
    """What would never match, or match too much: an origin has a scheme, a host, and a port if it is unusual."""
    return [
        f"CORS_ORIGINS: {origin!r} is no origin such as https://shop.example or http://localhost:8080"
        for origin in origins
        if not ORIGIN.fullmatch(origin)
    ]


def init_app(app: Flask) -> None:
    """Refuse pages of other sites, but those of the configured origins."""
    app.before_request(refuse)
    if app.config["CORS_ORIGINS"]:
        app.before_request(preflight)
