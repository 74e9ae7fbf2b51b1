"""What goes over the wire: the checks of every request, and how a route's value becomes an answer. Routes import its answers.

A route returns plain values: a dictionary or list becomes JSON, nothing a 204, a row's `etag` its ETag, `page(...)` a list
with its Link, `created(...)` a 201 with its Location, `changed(...)` a 204, or the 404 or 412 that a write of no row means.
"""

import base64
import csv
import hashlib
import inspect
import io
import json
import re
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from itertools import islice
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from json.scanner import c_make_scanner  # type: ignore[attr-defined]
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes, urlencode

import flask
import FlaskSimpleAuth as fsa  # noqa: N813
from flask.json.provider import JSONProvider
from FlaskSimpleAuth import request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge, RequestURITooLarge, UnsupportedMediaType
from werkzeug.http import http_date
from werkzeug.routing import BaseConverter

from engine.db.statement import Json
from engine.http import errors
from engine.http.request import here
from engine.http.response import Response
from engine.http.transaction import READS
from engine.problem import CODES, Problem

MAX_TARGET = 8000  # characters of a path and its query together, as elsewhere (nginx, Apache)
MAX_NAMES = 100  # of parameters in a request; no route has a tenth of that
MAX_ROWS = 100_000  # of a CSV body
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
NONE: dict[str, Any] = {}
ETAG = re.compile(r'(W/)?"([^"]*)"')


T = TypeVar("T")
Created = Annotated[T, 201]  # as a return type: a new resource


def declare(**what: Any) -> Callable[[T], T]:
    """State of a route, under its rule, what its signature cannot say.

    :param produces: media types of its answers, if they are not JSON.
    :param page: path to which a browser is sent, that is who prefers text/html.
    :param deprecated: datetime since when it should no longer be used (RFC 9745).
    :param sunset: datetime when it will be gone (RFC 8594).
    :param stored: False for a POST whose answer is a secret, hence not kept for an Idempotency-Key.
    :param located: False for a creation whose answer has no Location.
    :param database: False for a route that asks no database.
    :param account: True for a route about the caller's own account, which is closed to keys; or the variable of the path that
        names an account, which keys of its own do not change.
    :param limit: how often it may be called, such as 30/minute, by one caller, or one address where it is open to all.
    :param by: "address" where addresses are counted on a route that is not open.
    :param csv: the parameter whose value may also come as a body of rows (text/csv), each an object by the header line.
    """

    def mark(view: T) -> T:
        view.__dict__["declared"] = what
        return view

    return mark


def declared() -> dict[str, Any]:
    """What was declared of the route at hand."""
    return getattr(here().route, "declared", NONE)


JSONS = ("application/json", "application/problem+json")


@cache
def columns(view: Callable[..., Any] | None) -> tuple[str, ...]:
    """The names of the members of a list's rows, in order; none if the route gives no such list."""
    kind = inspect.signature(view).return_annotation if view else None
    return tuple(getattr(typing.get_args(kind)[0], "__annotations__", ())) if typing.get_origin(kind) is list else ()


@cache
def offers(view: Callable[..., Any] | None) -> tuple[str, ...]:
    """The media types that a route can answer with; an error is always JSON."""
    declared = getattr(view, "declared", NONE)
    return tuple(declared.get("produces", JSONS + (("text/csv",) if columns(view) else ())))


def to_csv(items: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    """Rows as CSV (RFC 4180) below a header line; null is empty, a structure is its JSON text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(item[name]) for name in names] for item in items)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return value if isinstance(value, str) or value is None else "".join(_encode(value, 0))


def from_csv(raw: bytes) -> list[dict[str, Any]]:
    """The records of a CSV text (RFC 4180), each an object by the names of the header line."""
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), restkey="", strict=True)
        names = reader.fieldnames or []
        found = list(islice(reader, MAX_ROWS + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest("the request body is not valid CSV in UTF-8") from error
    if len(set(names)) != len(names):
        raise BadRequest("a column comes twice")
    if len(found) > MAX_ROWS:
        raise RequestEntityTooLarge
    return found


class Page(dict[str, Any]):
    """A row of a list query: `items`, and `next` where there is more."""


def page(row: dict[str, Any], total: int | None = None) -> Any:
    """A list as an array, with a Link to the next page if there is one."""
    return Page(row, total=total)


def url(path: str) -> str:
    """The URL of a path that is relative to where the API is mounted."""
    return here().root_path + path


def created(body: Any, path: str | None = None) -> Any:
    """201, with the URL of the new resource if it has one; `path` is relative to where the API is mounted."""
    return body, 201, {"Location": url(path)} if path else {}


def taken(field: str) -> NoReturn:
    """409 for what must be unique and is there already."""
    raise Problem(409, f"{field} is already taken", "duplicate", field)


def created_all(row: dict[str, Any]) -> Any:
    """201 with the keys of a batch, or 409 that names the places of the items already there: then none is kept."""
    if row["taken"]:
        places = "\n".join(f"[{place}] is already taken" for place in json.loads(row["taken"]))
        fsa.err(f'error on parameter "items": {places}', 409)
    return row["body"], 201


def changed(version: int | None) -> Any:
    """204 for a write that found its row: None is 404, 0 means that the row is at another version, hence 412."""
    if version is None:
        fsa.err("object not found", 404)
    if version == 0:
        fsa.err(CODES[412][1], 412)
    return "", 204


def sent(body: bytes, packed: bytes, kind: str, **headers: str) -> Any:
    """A 200 of another kind than JSON, with its ETag.

    :param packed: the body in gzip, for a client that takes it.
    """
    headers["Vary"] = "Accept, Accept-Encoding"
    if request.accept_encodings["gzip"]:
        body, headers["Content_Encoding"] = packed, "gzip"
    response = flask.Response(body, 200, {name.replace("_", "-"): text for name, text in headers.items()}, mimetype=kind)
    response.add_etag()
    return response.make_conditional(request)


class IfMatch(str):
    """The versions that If-Match allows a write to find, as a PostgreSQL array; a parameter of this type makes a write safe."""

    header: ClassVar[dict[str, Any]] = {
        "name": "If-Match",
        "description": "The ETag that the resource must still have; the server may be set to insist",
        "example": "*",
        "schema": {"type": "string"},
    }
    refusals = (412, 428)


def if_match(_: str) -> IfMatch | None:
    """Read If-Match (RFC 9110 13.1.1): None when absent or `*`; weak and foreign tags match nothing.

    `If-None-Match: *` asks that there be no such resource: no version of one will do.
    """
    if request.environ.get("HTTP_IF_NONE_MATCH", "").strip() == "*":
        return IfMatch("{}")
    header = request.environ.get("HTTP_IF_MATCH")
    if header is None:
        if flask.current_app.config["REQUIRE_IF_MATCH"]:
            fsa.err(CODES[428][1], 428)
        return None
    if header.strip() == "*":
        return None
    tags = [tag for weak, tag in ETAG.findall(header) if not weak]
    return IfMatch("{" + ",".join(tag for tag in tags if tag.isascii() and tag.isdigit() and len(tag) < 10) + "}")


def counts(name: str) -> bool:
    """Whether the client prefers to know how many there are (`Prefer: count=exact`, RFC 7240); the first `count` holds."""
    for preference in here().environ.get("HTTP_PREFER", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "count":
            return bool(value.strip().strip('"').lower() == "exact")
    return False


def empty(status: int, **headers: str) -> flask.Response:
    """An answer without a body, hence without a Content-Type."""
    response = Response(b"", status, headers)
    del response.headers["Content-Type"]
    return response


class Count:
    """A parameter of this type is true when the client asks for a count."""

    header: ClassVar[dict[str, Any]] = {
        "name": "Prefer",
        "description": "count=exact: count what matches, in Content-Range (RFC 7240)",
        "example": "count=exact",
        "schema": {"type": "string"},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Json):
        return json.loads(value)
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


# what JSONEncoder.encode() makes anew each time: no cycles, keys as they come, no NaN
_encode = c_make_encoder(None, _plain, encode_basestring, None, ":", ",", False, False, False)


class Provider(JSONProvider):
    """JSON as RFC 8259 has it: no NaN, no duplicate members; decimals keep every digit, times are RFC 3339."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return "".join(_encode(obj, 0))

    def loads(self, s: str | bytes, **_: Any) -> Any:
        text = (s if isinstance(s, str) else s.decode()).removeprefix("\ufeff").strip(" \t\n\r")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            raise ValueError("no value") from None
        if end != len(text):
            raise ValueError("more than one value")
        return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_scan = c_make_scanner(json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant))  # what its decode() calls


def answer(value: Any, status: int) -> flask.Response:
    """The answer of a route's value, with its ETag."""
    if isinstance(value, Page):
        return _page(value, status)
    etag = None
    if value is None or status == 204:
        return empty(status)
    if isinstance(value, dict) and "etag" in value:
        value = dict(value)
        etag = str(value.pop("etag"))
    body = value if isinstance(value, Json) else here().app.json.dumps(value).encode()
    if status != 200 or here().method not in READS:
        etag = None
    elif etag is None:
        etag = hashlib.blake2b(body, digest_size=8).hexdigest()
    return compared(here().app.response_class.of(body + b"\n", status, "application/json", etag), etag)


def _page(value: Page, status: int) -> flask.Response:
    """A list, as JSON or CSV, with its links and its count."""
    asked, cursor, total = here(), value["next"], value["total"]
    body, kind = (value["items"] or b"[]") + b"\n", "application/json"
    shown = len(json.loads(body)) if total is not None else 0
    accept = asked.environ.get("HTTP_ACCEPT", "")
    if "text/" in accept and errors.is_wanted("text/csv", accept):
        body, kind = to_csv(json.loads(body, parse_float=str), columns(here().route)), "text/csv; charset=utf-8"
    # NOTE the ETag is of all that is told: where the page ends and how many rows there are stand in headers
    told = b"%b\n%b\n%d" % (body, cursor or b"", -1 if total is None else total)
    etag = hashlib.blake2b(told, digest_size=8).hexdigest()
    response = here().app.response_class.of(body, status, kind, etag)
    response.add("Vary", "Accept, Prefer")
    if links := _links(cursor):
        response.headers["Link"] = links
    if total is not None:
        response.headers["Content-Range"] = f"items {f'0-{shown - 1}' if shown else '*'}/{total}"
        response.headers["Preference-Applied"] = "count=exact"
    return compared(response, etag)


def _links(cursor: bytes | None) -> str:
    """The next page, if there is one, and the first, unless it is this one (RFC 8288)."""
    asked = here()
    if not cursor and not asked.query_string and not asked.has_body:
        return ""
    given, links = parameters(), []
    if cursor:
        links.append(("next", given | {"after": base64.urlsafe_b64encode(cursor).rstrip(b"=").decode()}))
    if "after" in given:
        links.append(("first", {name: text for name, text in given.items() if name != "after"}))
    path = f"{request.script_root}{request.path}?"
    return ", ".join(f'<{(path + urlencode(query)).rstrip("?")}>; rel="{rel}"' for rel, query in links)


def compared(response: flask.Response, etag: str | None) -> flask.Response:
    """The answer to what the client knows of a resource by its ETag: If-Match before If-None-Match (RFC 9110 13.2.2)."""
    environ = here().environ
    required = etag and environ.get("HTTP_IF_MATCH")
    if required and required.strip() != "*" and not any(tag == etag and not weak for weak, tag in ETAG.findall(required)):
        return errors.answer(None, 412)
    known = etag and environ.get("HTTP_IF_NONE_MATCH")
    if known and (known.strip() == "*" or any(tag == etag for _, tag in ETAG.findall(known))):
        response.status_code = 304
        response.set_data(b"")
        response.headers.pop("Content-Length", None)
    return response


def check_many(route: Callable[..., Any]) -> None:
    """A list is no answer of a route whose signature says one object.

    :raises RuntimeError: it says so.
    """
    meant = inspect.signature(route).return_annotation
    if isinstance(meant, type) and issubclass(meant, dict):
        name = flask.request.endpoint
        raise RuntimeError(f"{name} gives a list, its signature says {meant.__name__}: does its query lack ^ after its name?")


def given() -> dict[str, Any]:
    """The parameters of a request, wherever they came from; of a file, the digest of its content."""
    if not request.has_body:
        return dict(request.args)
    body: Mapping[str, Any] = request.get_json() if request.is_json else request.form
    files = {name: hashlib.sha256(file.read()).hexdigest() for name, file in request.files.items()}
    for file in request.files.values():
        file.seek(0)
    return {**request.args, **body, **files}


def parameters() -> dict[str, str]:
    """The same of a request that reads, to name them again in a URL."""
    return {name: str(value) for name, value in given().items() if value is not None}


def _check_once(names: list[str]) -> None:
    if len(names) > MAX_NAMES:
        raise BadRequest(f"more than {MAX_NAMES} parameters")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadRequest("\n".join(f'parameter "{name}" comes more than once' for name in twice))


def check() -> flask.Response | None:
    """Before anything else: may this request be understood, and its answer?"""
    asked = here()
    environ, names = asked.environ, []
    if refused := environ.get("engine.refused"):  # see bodies.py
        return errors.answer(*refused)
    host = environ.get("HTTP_HOST")
    if (not host or "," in host) and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":  # RFC 9112 3.2; WSGI joins headers by commas
        raise BadRequest("one Host must be named")
    if len(environ["PATH_INFO"]) + len(environ.get("QUERY_STRING", "")) > MAX_TARGET:
        raise RequestURITooLarge
    accept = environ.get("HTTP_ACCEPT", "*/*")
    if accept != "*/*":
        if (page := declared().get("page")) and errors.is_wanted("text/html", accept):
            return empty(303, Location=url(page))
        if asked.routing_exception is None and not any(errors.quality(kind, accept)[0] for kind in _offered()):
            kinds = dict.fromkeys(kind.partition(";")[0] for kind in _offered())
            return errors.answer(f"this resource is only available as {' or '.join(kinds)}", 406)
    if query := environ.get("QUERY_STRING"):
        _check_utf8(query.encode("latin1"))
        names += [name for name, values in asked.args.lists() for _ in values]
    if asked.has_body:
        if asked.is_json:
            try:
                body = asked.get_json()
            except RecursionError as error:
                raise BadRequest("the request body is nested too deeply") from error
            if not isinstance(body, dict):
                raise BadRequest("the request body must be a JSON object")
            names += body
        elif asked.mimetype in FORMS:
            if asked.mimetype != "multipart/form-data":
                _check_utf8(asked.get_data(parse_form_data=False))
            names += [name for name, values in asked.form.lists() for _ in values]
        elif asked.mimetype == "text/csv" and (name := declared().get("csv")):
            asked.form, asked.files = ImmutableMultiDict([(name, from_csv(asked.get_data()))]), ImmutableMultiDict()  # type: ignore
            names.append(name)
        else:
            raise UnsupportedMediaType
        if "HTTP_TRANSFER_ENCODING" in environ and not asked.is_json:  # what is left of a cut form or table is one as well
            raise LengthRequired
    if len(names) > 1:
        _check_once(names)
    return None


def _offered() -> tuple[str, ...]:
    return offers(here().route)


def _check_utf8(raw: bytes) -> None:
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("parameters must be UTF-8") from error


def finish(response: Response) -> Response:
    """The headers of every answer."""
    names, status = response.names(), response.status_code
    response.add("X-Content-Type-Options", "nosniff")
    if "Cache-Control" not in names:
        open_ = "HTTP_AUTHORIZATION" not in here().environ and status in (200, 304)
        response.add("Cache-Control", "no-cache" if open_ and "ETag" in names else "no-store")
    if "Vary" not in names:
        response.add("Vary", "Accept")
    headers = response.headers
    if status == 401:  # FlaskSimpleAuth has named its own schemes
        headers.setdefault("WWW-Authenticate", f'Basic realm="{flask.current_app.config["FSA_REALM"]}"')
    if stated := declared():
        if "deprecated" in stated:
            headers["Deprecation"] = f"@{int(stated['deprecated'].timestamp())}"
        if "sunset" in stated:
            headers["Sunset"] = http_date(stated["sunset"])
    return response


class KeyConverter(BaseConverter):
    """What stands for <name> in a path: the key of a row, so that /stuff/batch is no /stuff/<sid>."""

    regex = "[1-9][0-9]*"


def init_app(app: Any) -> None:
    """Check requests and finish answers."""
    app.url_map.converters["string"] = KeyConverter  # what FlaskSimpleAuth makes of a type of ours
    app.json = Provider(app)
    app.url_map.merge_slashes = False  # /stuff//1 is no route, rather than a redirection to one
    app.config["FSA_SPECIAL_PARAMETER"] = {IfMatch: if_match, Count: counts}
    app.config["FSA_JSON_STREAMING"] = False
    app.before_request(check)
