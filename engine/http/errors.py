"""Every error as one body: exception or refusal to status, code and message.

The catalogue of codes is docs/errors.md; the statuses are those of RFC 9110, the second form is RFC 9457 (problem details).
"""

import logging
import re
from http import HTTPStatus
from typing import Any

from flask import Flask, current_app, json, request
from werkzeug.exceptions import HTTPException

from engine.http.request import here, there
from engine.http.response import Response
from engine.problem import CODES, Problem

log = logging.getLogger("stuff.errors")

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
    body["request_id"] = now.request_id if (now := there()) else None
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
        error.add_note(f"request id: {here().request_id}")
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
