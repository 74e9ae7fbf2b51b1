"""The contract as OpenAPI 3.1, made from what the routes say. Imported by app and the route that serves it.

Each route is recorded when it is registered; path, methods, signature, return type, docstring, rule and scheme are all that
there is to say. In a docstring a line `409: why` adds a status; `wire.declare` says what a signature cannot.
"""

import gzip
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from FlaskSimpleAuth import Cookie, FileStorage, Flask, Header, JsonData

from engine import settings
from engine.http import wire
from engine.openapi.schema import Schemas, jsonable, nullable
from engine.problem import CODES, SPECIFIC
from engine.types import MAX_INT, Problem, bounds

Object = dict[str, Any]
IN_BODY = {"POST", "PUT", "PATCH"}
STATUS = re.compile(r"^\s*(\d{3}): (.*)$", re.MULTILINE)
SCHEMES = {"basic": "basic", "token": "bearer"}  # of FlaskSimpleAuth, and as they are named here
FOR = {"OPEN": "For anybody.", "AUTH": "For any authenticated user."}
RULES = {"user": "self", "account": "ADMIN or self"}  # what object rules come to
HEADERS: dict[str, Object] = {
    "X-Request-Id": {"description": "The request's own id if it gave a fit one, else a new one", "schema": {"type": "string"}},
    "ETag": {"description": "What If-None-Match and If-Match compare (RFC 9110)", "schema": {"type": "string"}},
    "Location": {"description": "Where the new resource is", "schema": {"type": "string", "format": "uri-reference"}},
    "Link": {"description": 'The next page, rel="next" (RFC 8288); absent on the last', "schema": {"type": "string"}},
    "Content-Range": {"description": "`items first-last/count`, on request", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "The preference that was honoured (RFC 7240)", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before trying again", "schema": bounds(0, MAX_INT)},
    "RateLimit-Policy": {"description": "How many (q) in how many seconds (w)", "schema": {"type": "string"}},
    "RateLimit": {"description": "How many are left (r), seconds until the period ends (t)", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "The schemes that this route takes", "schema": {"type": "string"}},
    "Consistency-Token": {
        "description": "Where this write ends: reads that send it back see it, where they go to standbys",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {"description": "`true`: an answer given before", "schema": {"type": "string", "enum": ["true"]}},
    "Deprecation": {"description": "Since when, as @ and a Unix time (RFC 9745)", "schema": {"type": "string"}},
    "Sunset": {"description": "When this route will be gone (RFC 8594)", "schema": {"type": "string"}},
}
DOCUMENTS = {"/docs", "/console", "/openapi.json"}
DECLARES = {"deprecated": "Deprecation", "sunset": "Sunset"}
DATES = {"deprecated": "Deprecated since", "sunset": "Gone after"}
RATE = ["RateLimit-Policy", "RateLimit"]
WITH = {401: ["WWW-Authenticate"], 429: ["Retry-After", *RATE], 503: ["Retry-After"]}
KEY: Object = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same request within 24 hours gives the same answer, and is done once",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}
TOKEN: Object = {
    "name": "Consistency-Token",
    "in": "header",
    "description": "As the answer to a write said it: the answer to this will not be older. A cookie does the same",
    "required": False,
    "schema": {"type": "string"},
}
KNOWN: Object = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags that the client has: 304 if the answer would have one of them (RFC 9110)",
    "example": '"0"',
    "required": False,
    "schema": {"type": "string"},
}


@dataclass(frozen=True)
class Route:
    """What was said when a route was registered."""

    rule: str
    name: str
    methods: tuple[str, ...]
    view: Callable[..., Any]
    authorize: Any
    auth: Any

    @property
    def tag(self) -> str:
        """The module of the route."""
        return self.view.__module__.rpartition(".")[2]

    @property
    def path(self) -> str:
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.rule)

    @cached_property
    def variables(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def rules(self) -> list[Any]:
        return list(self.authorize) if isinstance(self.authorize, list) else [self.authorize]

    @property
    def who(self) -> str:
        """Who may call, in a word."""
        return " ".join(self.whos)

    @property
    def whos(self) -> list[str]:
        """Who may call, by each rule: all must hold."""
        return [RULES.get(rule[0], str(rule[0])) if isinstance(rule, tuple) else str(rule) for rule in self.rules]

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, Any]]:
        """Name in a request: type, and default or `inspect.Parameter.empty`."""
        found = inspect.signature(self.view).parameters.values()
        return {one.name.removeprefix("_"): (_bare(one), one.default) for one in found if one.kind is not one.VAR_KEYWORD}

    @cached_property
    def is_free(self) -> bool:
        """Whether it takes parameters of any name (`**parameters`)."""
        return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(self.view).parameters.values())

    def inputs(self) -> Iterator[tuple[str, Any, Any]]:
        """The parameters that a client gives: those that are neither in the path nor in a header."""
        for name, (kind, default) in self.parameters.items():
            if name not in self.variables and not _is_special(kind):
                yield name, kind, default

    @property
    def output(self) -> tuple[int, Any]:
        """The status of a success, and the type of its body, None if there is none."""
        kind = inspect.signature(self.view).return_annotation
        if typing.get_origin(kind) is typing.Annotated:
            *facets, last = kind.__metadata__
            if not isinstance(last, int):
                return 200, kind
            body = typing.Annotated[kind.__origin__, *facets] if facets else kind.__origin__
            return last, None if body is types.NoneType else body
        return (204 if kind is None else 200), Any if kind is inspect.Signature.empty else kind

    @property
    def declared(self) -> Object:
        """What `wire.declare` said."""
        return typing.cast(Object, getattr(self.view, "declared", {}))

    @property
    def reads(self) -> bool:
        """Whether it asks the database."""
        return bool(self.declared.get("database", True))

    @cached_property
    def says(self) -> str:
        """The docstring without its statuses."""
        return STATUS.sub("", inspect.getdoc(self.view) or "").strip() or self.name

    def refusals(self, method: str) -> dict[int, str]:
        """The statuses of what may go wrong, each with its reason where it is not the usual one."""
        reasons = dict.fromkeys((400, 406, 500), "") | (dict.fromkeys((503, 504), "") if self.reads else {})
        if self.variables:
            reasons[404] = ""
        if method in IN_BODY:
            reasons |= {411: "", 413: "", 415: ""}
        if method == "POST" and self.declared.get("stored", True):
            reasons |= {409: "", 422: ""}
        if "limit" in self.declared:
            reasons[429] = ""
        if self.rules != ["OPEN"]:
            reasons |= {401: "", 429: ""} | ({403: ""} if self.rules != ["AUTH"] else {})
        for kind, _ in self.parameters.values():
            reasons |= dict.fromkeys(getattr(kind, "refusals", ()), "")
        return reasons | {int(status): why for status, why in STATUS.findall(inspect.getdoc(self.view) or "")}


def _bare(one: inspect.Parameter) -> Any:
    """The type itself of a parameter that may be None; without an annotation that of its default, else text."""
    kind = one.annotation
    if kind is one.empty:
        return str if one.default in (one.empty, None) else type(one.default)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _is_special(kind: Any) -> bool:
    """Whether a parameter comes from elsewhere: a header, the user, the framework."""
    if kind in (FileStorage, JsonData):
        return False
    return hasattr(kind, "header") or getattr(kind, "__module__", "").startswith(("FlaskSimpleAuth", "flask", "werkzeug"))


class Contract:
    """All routes of an application, in the order of their registration, and what is told of them."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.routes: list[Route] = []
        path = Path(app.root_path, "docs", "examples.json")
        self.examples: dict[str, Object] = json.loads(path.read_text()) if path.exists() else {}

    def recording(self, register: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap add_url_rule, which keeps neither the rule nor the scheme of a route."""

        def add_url_rule(rule: str, endpoint: Any = None, view_func: Any = None, **options: Any) -> Any:
            methods = tuple(options.get("methods") or ["GET"])
            authorize = options.get("authorize", options.get("authz"))
            name = (endpoint or view_func.__name__).rpartition(".")[2]
            self.routes.append(Route(rule, name, methods, view_func, authorize, options.get("auth", options.get("authn"))))
            return register(rule, endpoint=endpoint, view_func=view_func, **options)

        return add_url_rule

    def operations(self) -> Iterator[tuple[Route, str]]:
        """Each method of each route."""
        for route in self.routes:
            for method in route.methods:
                yield route, method

    @cached_property
    def names(self) -> dict[tuple[int, str], str]:
        """The operationId of each method of each route, by the route's place; one that is taken is followed by the path."""
        found: dict[tuple[int, str], str] = {}
        for place, route in enumerate(self.routes):
            verb, _, noun = route.name.partition("_")
            for method in route.methods:
                name = f"{method.lower()}_{noun or verb}" if verb.upper() in route.methods else f"{method.lower()}_{route.name}"
                if name in found.values():
                    name += re.sub(r"\W+", "_", route.path).rstrip("_")
                found[place, method] = name
        return found

    def operation_id(self, route: Route, method: str) -> str:
        """How an operation is called in generated clients."""
        return self.names[self.routes.index(route), method]

    @cached_property
    def text(self) -> bytes:
        """The document as JSON, in ASCII: YAML loaders, too, read it."""
        return json.dumps(self.document).encode()

    @cached_property
    def packed(self) -> bytes:
        """The document as JSON, in gzip."""
        return gzip.compress(self.text, 6, mtime=0)

    @cached_property
    def links(self) -> dict[str, str]:
        """Paths by name: the documents, and every list that is at no variable path."""
        found = [route for route in self.routes if "GET" in route.methods and not route.variables]
        paths = [one.path for one in found if one.path in DOCUMENTS or typing.get_origin(one.output[1]) is list]
        return {path[1:].removesuffix(".json"): path for path in paths}

    @cached_property
    def document(self) -> Object:
        """The OpenAPI document; its URLs are relative to where it is served from."""
        models = Schemas()
        models.of(Problem, "serialization")
        paths: dict[str, Object] = {}
        for route, method in self.operations():
            paths.setdefault(route.path, {})[method.lower()] = self._operation(route, method, models)
        tags = {route.tag: inspect.getdoc(inspect.getmodule(route.view)) or route.tag for route in self.routes}
        responses = _used("responses", paths, {c: _error(status, why) for status, (c, why) in CODES.items()})
        headers = _used("headers", [paths, responses], HEADERS)
        return {
            "openapi": "3.1.1",
            "info": {
                "title": self.app.name,
                "version": self.app.config["VERSION"],
                "summary": "A REST back-end in the YeSQL style",
                "description": "Parameters may come in the query string, in a form or in a JSON body, whatever the method.",
                "contact": {"name": "Whoever runs this server"},
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "."}],
            "tags": [{"name": tag, "description": said.partition("\n")[0]} for tag, said in tags.items()],
            "paths": paths,
            "components": {
                "schemas": models.named,
                "headers": headers,
                "responses": responses,
                "securitySchemes": {
                    "basic": {
                        "type": "http",
                        "scheme": "basic",
                        "description": "Login and password; digits of a second factor in X-OTP",
                    },
                    "bearer": {"type": "http", "scheme": "bearer", "description": "A token, from /login"},
                },
            },
        }

    def _operation(self, route: Route, method: str, models: Schemas) -> Object:
        summary, _, description = route.says.partition("\n")
        # NOTE told here alone: with a second media type, clients in TypeScript get a list or a text from every call
        csv = ["`Accept: text/csv` gives CSV (RFC 4180)."] if wire.columns(route.view) else []
        dates = [f"{name} {route.declared[key]:%Y-%m-%d}." for key, name in DATES.items() if key in route.declared]
        operation: Object = {
            "operationId": self.operation_id(route, method),
            "tags": [route.tag],
            "summary": summary.rstrip("."),
            "description": "\n".join([description.strip() or summary, *csv, *dates, FOR.get(route.who, f"For {route.who}.")]),
        }
        if "deprecated" in route.declared:
            operation["deprecated"] = True
        if parameters := list(self._parameters(route, method, models)):
            operation["parameters"] = parameters
        if method in IN_BODY and (body := self._body(route, method, models)):
            operation["requestBody"] = body
        operation["responses"] = {
            str(status): response for status, response in sorted(self._responses(route, method, models).items())
        }
        operation["security"] = [{scheme: []} for scheme in self.schemes(route)]
        operation["x-authorize"] = route.whos
        if csv:
            operation["x-also-produces"] = ["text/csv"]
        return operation

    def schemes(self, route: Route) -> list[str]:
        """The ways to say who one is that a route takes."""
        if route.rules == ["OPEN"]:
            return []
        given = route.auth or self.app.config.get("FSA_AUTH_DEFAULT") or self.app.config["FSA_AUTH"]
        return [SCHEMES[one] for one in ([given] if isinstance(given, str) else given) if one in SCHEMES]

    def _parameters(self, route: Route, method: str, models: Schemas) -> Iterator[Object]:
        examples = self.examples.get(f"{method} {route.path}", {})
        for name in route.variables:
            yield _parameter(name, "path", True, models.of(route.parameters[name][0]), examples.get("path", {}))
        for name, (kind, default) in route.parameters.items():
            if hasattr(kind, "header"):
                yield {"in": "header", "required": False, **kind.header}
            elif kind in (Header, Cookie):
                where, said = ("header", name.replace("_", "-")) if kind is Header else ("cookie", name)
                yield _parameter(said, where, default is inspect.Parameter.empty, {"type": "string"}, {})
        if method == "POST" and route.declared.get("stored", True):
            yield KEY
        if method == "GET":
            yield from [KNOWN] if "produces" not in route.declared else []
            yield from [TOKEN] if route.reads else []
        for name, schema, required in self._inputs(route, models) if method not in IN_BODY else ():
            yield _parameter(name, "query", required, schema, examples.get("query", {}))
        if route.is_free and method not in IN_BODY:
            any_: Object = {"type": "object", "additionalProperties": {"type": "string"}}
            yield _parameter("parameters", "query", False, any_, {}) | {"style": "form", "explode": True}

    @staticmethod
    def _inputs(route: Route, models: Schemas) -> Iterator[tuple[str, Object, bool]]:
        for name, kind, default in route.inputs():
            schema = models.of(kind)
            if default not in (None, "", inspect.Parameter.empty):
                schema["default"] = jsonable(default)
            yield name, schema, default is inspect.Parameter.empty

    def _body(self, route: Route, method: str, models: Schemas) -> Object | None:
        inputs = list(self._inputs(route, models))
        if not inputs and not route.is_free:
            return None
        required = [name for name, _, needed in inputs if needed]
        voids = {name for name, (_, default) in route.parameters.items() if default is None}
        members = {name: nullable(one) if name in voids else one for name, one, _ in inputs}
        schema: Object = {"type": "object", "properties": members, "additionalProperties": route.is_free}
        if required:
            schema["required"] = required
        # NOTE one schema under a name for all media types: generators make a class of each that is not named
        media: Object = {"schema": models.name(self.operation_id(route, method).title().replace("_", ""), schema)}
        if example := self.examples.get(f"{method} {route.path}", {}).get("json"):
            media["example"] = example
        kinds = [kind for _, kind, _ in route.inputs()]
        if FileStorage in kinds:
            return {"required": bool(required), "content": {"multipart/form-data": media}}
        content = {"application/json": media}
        if all(map(models.is_scalar, members.values())):  # a form has no null
            content["application/x-www-form-urlencoded"] = media
        if "csv" in route.declared:
            content["text/csv"] = {
                "schema": {"type": "string", "format": "csv", "description": "A header line, then a row each"}
            }
        return {"required": bool(required), "content": content}

    def _responses(self, route: Route, method: str, models: Schemas) -> dict[int, Object]:
        status, kind = route.output
        produces = route.declared.get("produces")
        names = ["X-Request-Id", *(name for key, name in DECLARES.items() if key in route.declared)]
        names += RATE if "limit" in route.declared else []
        success: Object = {"description": {200: "The value", 201: "Created", 204: "Done"}[status]}
        if produces:
            success["content"] = {one.partition(";")[0]: {"schema": _raw(one)} for one in produces}
        elif kind is not None:
            media: Object = {"schema": models.of(kind, "serialization")}
            if (example := self.examples.get(f"{method} {route.path}", {})).get("status") == status:
                media["example"] = example["body"]
            success["content"] = {"application/json": media}
        found = {status: success}
        extra = {200: [] if produces else ["ETag"], 201: ["Location"], 204: []}[status]
        if not route.declared.get("located", True):
            extra = []
        if method != "GET":
            extra = [*extra, "Consistency-Token"]
        if method == "POST":
            extra = [*extra, "Idempotency-Replayed"]
        if typing.get_origin(kind) is list and "after" in route.parameters:
            extra = [*extra, "Link", "Content-Range", "Preference-Applied"]
        if status == 201 and (links := self._links(route, kind)):
            success["links"] = links
        success["headers"] = _headers(names + extra)
        if "page" in route.declared:
            found[303] = {"description": "To the page for a browser", "headers": _headers([*names, "Location"])}
        if method == "GET" and not produces:
            found[304] = {"description": "Not changed: If-None-Match names it", "headers": _headers([*names, "ETag"])}
        for code, why in route.refusals(method).items():
            found[code] = _error(code, why) if why else {"$ref": f"#/components/responses/{CODES[code][0]}"}
        return found

    def _links(self, route: Route, kind: Any) -> Object:
        """From a creation to what may be done with the new resource: its key is the last variable of their path."""
        links = {}
        for other, method in self.operations():
            key = other.variables[-1] if other.variables else None
            if other.path == f"{route.path}/{{{key}}}" and key in getattr(kind, "__annotations__", ()):
                parameters = {key: f"$response.body#/{key}"} | {name: f"$request.path.{name}" for name in route.variables}
                name = self.operation_id(other, method)
                links[name] = {"operationId": name, "parameters": parameters}
        return links


def _parameter(name: str, where: str, required: bool, schema: Object, examples: Object) -> Object:
    """A parameter; its description stands beside its schema, where viewers look for it."""
    schema = dict(schema)
    described = {"description": schema.pop("description")} if "description" in schema else {}
    # a cursor is had from a Link alone, but for the empty one of the first page
    example = {"example": examples.get(name, "")} if name in examples or schema.get("format") == "cursor" else {}
    return {"name": name, "in": where, "required": required} | described | {"schema": schema} | example


def _raw(kind: str) -> Object:
    """The schema of an answer that is no JSON."""
    return {"type": "string"} if kind.startswith("text/") else {"type": "string", "format": "binary"}


def _error(status: int, why: str) -> Object:
    error = {"schema": {"$ref": "#/components/schemas/Problem"}}
    content = {"application/json": error, "application/problem+json": error}
    return {"description": _sentence(why), "headers": _headers(["X-Request-Id", *WITH.get(status, [])]), "content": content}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _used(kind: str, where: Any, components: Object) -> Object:
    """The components of a kind that are referred to somewhere."""
    text = json.dumps(where)
    return {name: one for name, one in components.items() if f'"#/components/{kind}/{name}"' in text}


def _headers(names: list[str]) -> Object:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _shape(kind: Any) -> str:
    """A type in a table, in short."""
    if typing.get_origin(kind) is typing.Annotated:
        return _shape(kind.__origin__)
    if typing.get_origin(kind) is list:
        return f"array of {_shape(typing.get_args(kind)[0])}"
    if members := getattr(kind, "__annotations__", None):
        return "{" + ", ".join(members) + "}"
    return {None: "", str: "text", int: "integer"}.get(kind, "object")


def table(contract: Contract) -> str:
    """All routes, in Markdown."""
    rows = [["path", "method", "who", "in", "status", "out", "comment"]]
    for route in contract.routes:
        status, kind = route.output
        usual = {406, 411, 413, 415, 422, 428, 429, 500, 503, 504}
        said = {int(code) for code, _ in STATUS.findall(inspect.getdoc(route.view) or "")}
        statuses = {code for method in route.methods for code in route.refusals(method)} - usual - {409} | said
        given = " ".join(name + ("" if default is inspect.Parameter.empty else "?") for name, _, default in route.inputs())
        if not given:
            statuses -= {400} - said
        out = " ".join(route.declared["produces"]) if "produces" in route.declared else _shape(kind)
        told = " ".join(map(str, [status, *sorted(statuses)]))
        rows.append([route.path, " ".join(route.methods), route.who, given, told, out, route.says.partition("\n")[0]])
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


API = """# The routes

Made by `make docs` from the routes themselves; do not edit. A `?` means optional. Besides the statuses shown, any request may
be answered 400 (an unknown parameter), 406, 411, 413, 415, 429, 503 or 504, and a POST with an Idempotency-Key 409 or 422.
Plain HTTP from another machine is answered 403, and a change without If-Match 428 where `REQUIRE_IF_MATCH` is set.

"""
ERRORS = """# The errors

Made by `make docs` from `errors.py`; do not edit. `code` is stable: programs should rely on it, and show people `error`.

"""


def pages(contract: Contract) -> dict[str, str]:
    """What is generated of the documentation, by file name."""
    codes = [(status, code, message) for status, (code, message) in CODES.items()]
    codes += [(status, code, message) for code, (status, message) in SPECIFIC.items()]
    rows = "".join(f"| {status} | `{code}` | {_sentence(message)} |\n" for status, code, message in sorted(codes))
    return {
        "api.md": API + table(contract),
        "settings.md": settings.page(),
        "errors.md": ERRORS + "| status | code | meaning |\n| --- | --- | --- |\n" + rows,
    }


def init_app(app: Flask) -> None:
    """Record every route from now on."""
    contract = app.extensions["contract"] = Contract(app)
    app.watch_routes(contract.recording)

    @app.cli.command("api")
    def print_routes() -> None:
        """Print the table of routes."""
        print(table(contract), end="")

    @app.cli.command("docs")
    def write_docs() -> None:
        """Write the generated pages of docs/."""
        for name, page in pages(contract).items():
            Path(app.root_path, "docs", name).write_text(page)
