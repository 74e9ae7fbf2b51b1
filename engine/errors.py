"""Every error as one body: SQLSTATE, exception or refusal to status, code and message. Imported by database, wire and auth.

The catalogue of codes is docs/errors.md; the statuses are those of RFC 9110, the second form is RFC 9457 (problem details).
"""

import logging
import re
from http import HTTPStatus
from typing import Any

import psycopg
from flask import Flask, Response, current_app, g, json, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger("stuff.errors")

# status: (code for programs, message when nothing better is known)
CODES = {
    400: ("invalid_request", "bad request"),
    401: ("unauthenticated", "missing or bad credentials"),
    403: ("forbidden", "permission denied"),
    404: ("not_found", "object not found"),
    405: ("method_not_allowed", "method not allowed"),
    406: ("not_acceptable", "this resource is not available as what Accept asks for"),
    408: ("request_too_slow", "the request came too slowly"),
    409: ("conflict", "conflict with the current state"),
    410: ("gone", "the resource is no more"),
    411: ("length_required", "a form or a table must come with its Content-Length"),
    412: ("precondition_failed", "the resource has changed since"),
    413: ("body_too_large", "the request body is too large"),
    414: ("uri_too_long", "the request target is too long"),
    415: ("unsupported_media_type", "the request body must be JSON or a form"),
    422: ("idempotency_key_reused", "this Idempotency-Key came with another request"),
    428: ("precondition_required", "If-Match is required"),
    429: ("too_many_attempts", "too many attempts, try again later"),
    431: ("headers_too_large", "the request headers are too large"),
    500: ("internal_error", "internal error"),
    503: ("unavailable", "service unavailable, try again later"),
    504: ("timeout", "the request took too long and was ended"),
}
# code: (status, what it means); those that tell more than their status
SPECIFIC = {
    "invalid_parameter": (400, "a parameter is missing, unknown, ill-typed or out of bounds: `errors` names each"),
    "invalid_idempotency_key": (400, "an Idempotency-Key has 1 to 64 printable ASCII characters"),
    "invalid_consistency_token": (400, "a Consistency-Token is sent back as the answer to a write said it"),
    "password_too_short": (400, "password too short!"),
    "password_too_long": (400, "a password has at most 72 bytes"),
    "password_too_common": (400, "the password is one that many have"),
    "wrong_password": (400, "the old password is not right"),
    "insecure_transport": (403, "plain HTTP is for this machine alone, from another one it takes HTTPS"),
    "last_administrator": (409, "this is the last administrator"),
    "duplicate": (409, "what must be unique is taken already: `errors` names it"),
    "still_referenced": (409, "other objects refer to this one"),
    "still_running": (409, "a request with this Idempotency-Key is still running"),
    "schema_outdated": (503, "the database waits for a migration"),
    "outcome_unknown": (503, "the connection was lost during a commit: read before repeating, or use an Idempotency-Key"),
}
RETRY_AFTER = "1"  # seconds, RFC 9110 10.2.3

# how FlaskSimpleAuth words the fault of one parameter
_FAULT = re.compile(
    r'^(?:error on parameter "(?P<bad>[^"]*)": (?P<why>.*)'
    r'|unexpected (?:http|json|None) parameter "(?P<unknown>[^"]*)"'
    r'|parameter "(?P<name>[^"]*)" (?P<what>.*))$',
    re.DOTALL,
)
_UNKNOWN = re.compile(r"^unexpected (?:http|json|None) parameters: (.*)$", re.DOTALL)
# ...and these repeat the value, which may be a password
_ECHO = re.compile("(?:unexpected value|cast error|type error|conversion error)")
_LISTED = re.compile(r"(?<=^permission denied on )(\w+:)\[(.*)\](?= \()")  # "on user:[1] (None)": without the brackets
_WEIGHT = re.compile(r"q=((?:0(?:\.\d{0,3})?)|(?:1(?:\.0{0,3})?))")
_PLACE = re.compile(r"^(?P<place>[.\[][^ ]*) (?P<why>.*)$")


class Problem(BaseException):
    """An answer that ends the request, raised from below the routes.

    :param status: HTTP status code.
    :param message: text for the client; never a driver's.
    :param code: stable identifier, the status's own by default.
    :param field: parameter at fault, if one is.
    :param headers: more headers of the answer.
    :param retry: the transaction is undone for sure, running the request again may succeed.

    NOTE not an Exception: FlaskSimpleAuth's catch-alls let it through to `wire.Flask.dispatch_request`.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        code: str | None = None,
        field: str | None = None,
        retry: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.field, self.retry, self.headers = status, field, retry, headers or {}
        self.code, self.message = code or CODES[status][0], message or CODES[status][1]


def from_database(error: psycopg.Error, lost: bool = False, reads: bool = False) -> Problem:
    """Translate a driver's error; what it says stays in the log.

    :param error: as raised by psycopg.
    :param lost: the connection went away before COMMIT was sent, hence the server undoes the transaction.
    :param reads: the session was opened to read only, hence a refused write (25006) is a bug and no demoted server.
    """
    state, diag = error.sqlstate or "", error.diag
    table, name = diag.table_name or "", diag.constraint_name or ""
    field = re.sub(r"_(key|check|fkey|pkey)$", "", name.removeprefix(table + "_")) or diag.column_name
    if state == "23505":
        # NOTE Citus passes on the error of a shard without the name of the constraint
        return Problem(409, f"{field or 'it'} is already taken", "duplicate", field)
    if state == "23503":
        return Problem(409, "the object is still referenced", "still_referenced")
    if state == "ST409":  # raised by our own triggers and functions, the message is for the client
        return Problem(409, diag.message_primary, diag.message_hint)
    if state == "2200H":
        log.error("a sequence of keys is used up: %s", diag.message_primary)
        return Problem(503)
    if state in ("23502", "23514") or state[:2] in ("22", "54"):  # 54: too large for the server
        return Problem(400, f'parameter "{field}" is not acceptable' if field else "value not acceptable", field=field)
    if state == "57014":
        log.warning("statement cancelled: %s", diag.message_primary)
        return Problem(504)
    if state == "25006" and reads:
        log.error("a route that reads writes: %s", diag.message_primary, exc_info=error)
        return Problem(500)
    if lost or state in ("40001", "40P01", "25006", "25P03", "26000") or (state == "0A000" and "cached plan" in str(error)):
        # NOTE 25006 on the writing side is a demoted server, 25P03 a transaction that we left alone for too long (frozen, say),
        # 26000 and 0A000 a prepared statement that is no more
        log.warning("transaction undone: %s %s", state, diag.message_primary or type(error).__name__)
        return Problem(503, retry=True)
    if state[:2] in ("08", "53", "57", "58", "55") or isinstance(error, psycopg.OperationalError):
        log.error("database away: %s %s", state, diag.message_primary or error)
        return Problem(503)
    log.error("database: %s %s", state, diag.message_primary or error, exc_info=error)
    return Problem(500)


def _faults(message: str) -> list[dict[str, str]]:
    """Split FlaskSimpleAuth's lines into one entry a parameter; lines that begin with a place belong to the one above."""
    faults: list[dict[str, str]] = []
    field = ""
    if unknown := _UNKNOWN.match(message):
        return [{"field": name, "message": f'parameter "{name}" is unexpected'} for name in unknown[1].split(" ")]
    for line in message.split("\n"):
        if (place := _PLACE.match(line)) and field:
            fault = (field + place["place"], place["why"])
        elif found := _FAULT.match(line):
            field = found["bad"] or found["unknown"] or found["name"] or ""
            why = found["why"] or found["what"] or "is unexpected"
            why = "is ill-typed" if _ECHO.match(why) else why
            place = _PLACE.match(why)
            fault = (field + place["place"], place["why"]) if place else (field, why)
        else:
            continue
        faults.append({"field": fault[0], "message": f'parameter "{fault[0]}" {fault[1]}'})
    return faults


def quality(kind: str, accept: str) -> tuple[float, int]:
    """The weight that an Accept header gives to a media type, and how exactly it names it (RFC 9110 12.5.1).

    :param kind: a type such as `text/csv`; its parameters, and those of the header's other than q, are passed over.
    :returns: 0 to 1, 0 where it is not acceptable; 3 if the header names the type itself, 2 as `text/*`, 1 as `*/*`, else 0.
    """
    kind = kind.partition(";")[0]
    places = {kind: 3, kind.partition("/")[0] + "/*": 2, "*/*": 1}
    exact, weight = 0, 0.0
    for one in accept.lower().split(","):
        name, *parameters = [part.strip() for part in one.split(";")]
        if places.get(name, 0) > exact:
            exact, weight = places[name], 1.0
            for parameter in parameters:
                if found := _WEIGHT.fullmatch(parameter):
                    weight = float(found[1])
    return weight, exact


def is_wanted(kind: str, accept: str, tie: bool = False) -> bool:
    """Whether an Accept header prefers a media type to JSON: by its weight, or where the weights are equal by naming it.

    :param tie: the answer where it names both with equal weights, as generated clients do that list all they are told of.
    """
    found, json_ = quality(kind, accept), quality("application/json", accept)
    return found[0] > 0 and (found > json_ or (tie and found == json_ and found[1] == 3))


def answer(
    message: str | None,
    status: int,
    headers: dict[str, str] | None = None,
    content_type: str | None = None,
    code: str | None = None,
    field: str | None = None,
) -> Response:
    """The one error body; the first four parameters are those of FSA_ERROR_RESPONSE."""
    if message == "insecure HTTP request denied":  # FlaskSimpleAuth makes it a 500
        status, code = 403, "insecure_transport"
    status = status if status in CODES else (400 if status < 500 else 500)
    message = _LISTED.sub(r"\1\2", message or CODES[status][1])
    faults = _faults(message) if status in (400, 409) else []
    if faults:
        message = "; ".join(fault["message"] for fault in faults)
        code = code or ("invalid_parameter" if status == 400 else "duplicate")
    elif field:
        faults = [{"field": field, "message": message}]
    body: dict[str, Any] = {"error": message, "status": status, "code": code or CODES[status][0]}
    body["request_id"] = g.get("request_id")
    if faults:
        body["errors"] = faults
    kind = "application/json"
    if is_wanted("application/problem+json", request.headers.get("Accept", ""), tie=True):
        kind = "application/problem+json"
        title = HTTPStatus(status).phrase
        body |= {"type": "about:blank", "title": title, "detail": message, "instance": request.script_root + request.path}
    text = json.dumps(body).encode(errors="replace")  # a name that came may be no UTF-8
    response = Response(text + b"\n", status, headers or {}, content_type=kind)
    if status == 503 and "Retry-After" not in response.headers:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def from_problem(problem: Problem) -> Response:
    """The answer that a Problem asks for."""
    return answer(problem.message, problem.status, problem.headers, code=problem.code, field=problem.field)


def from_http(error: HTTPException) -> Response:
    """What Flask and Werkzeug refuse by themselves: no such route, method not offered, body too large, malformed JSON."""
    response = error.get_response()
    status = error.code or 500
    headers = {k: response.headers[k] for k in ("Allow", "Retry-After") if k in response.headers}
    message = {404: "no such route", 405: f"method {request.method} is not offered here"}.get(status)
    return answer(message or (error.description if status == 400 else None), status, headers)


def from_bug(error: Exception) -> Response:
    """Whatever else: logged once, with the stack, nothing of it to the client. In debug mode it is the debugger's.

    :raises Exception: the bug, in debug mode.
    """
    if current_app.debug:
        error.add_note(f"request id: {g.get('request_id')}")
        raise error
    log.error("bug on %s %s: %r", request.method, request.path[:256], error, exc_info=error)
    return answer(None, 500)


def init_app(app: Flask) -> None:
    """Take charge of all errors."""
    app.config.update(
        FSA_ERROR_RESPONSE=answer,
        FSA_KEEP_USER_ERRORS=True,  # else FSA turns 404, 405, 413 and malformed JSON into 500
        FSA_HANDLE_ALL_ERRORS=False,  # else the 405 loses its Allow
    )
    app.register_error_handler(HTTPException, from_http)
    app.register_error_handler(Exception, from_bug)
