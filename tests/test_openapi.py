"""The documents of the interface: complete, valid, true, and fresh."""

import ast
import enum
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import CREATE, HERE, MOUNT, basic, bearer
from FlaskSimpleAuth import Cookie, FileStorage, Header, JsonData
from openapi_spec_validator import validate
from openapi_spec_validator.readers import read_from_filename
from test_totp import digits
from typing_extensions import TypedDict

from engine.fast import flask_class
from engine.http import errors, wire
from engine.openapi import openapi
from engine.problem import CODES, SPECIFIC
from engine.types import Key
from model import Stuff, StuffText

EXAMPLES = json.loads((HERE / "docs" / "examples.json").read_text())
# members whose value nobody knows beforehand
SHOWN_ONCE = {
    "post /login",
    "post /refresh",
    "post /keys",
    "post /totp",
    "post /totp/confirm",
}  # not kept for an Idempotency-Key
VOLATILE = {
    "role",
    "now",
    "version",
    "schema",
    "created",
    "at",
    "made",
    "seen",
    "until",
    "agent",
    "expires",
    "refresh",
    "secret",
    "uri",
    "recovery",
}
SECRET = re.compile(r"stuff_[\w-]{43}|stuff:calvin:\d{14}:[0-9a-f]{64}|\$2b\$..\$.{53}")  # texts that are never the same


@pytest.fixture
def document(client: Any) -> Any:
    return client.get("/openapi.json", 200).json


def operations(document: Any) -> Any:
    return [(path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def masked(value: Any) -> Any:
    """The value without what is volatile in it."""
    if isinstance(value, dict):
        return {name: type(one).__name__ if name in VOLATILE else masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    if isinstance(value, str):
        return "secret" if SECRET.fullmatch(value) else value.removeprefix(MOUNT)  # links are below where the API is mounted
    return value


def test_the_document_is_valid(document: Any) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1.")


def test_yaml_loaders_read_it_as_json_readers_do(client: Any, document: Any, tmp_path: Path) -> None:
    text = client.get("/openapi.json", 200).text
    assert text.isascii()
    (tmp_path / "openapi.yaml").write_text(text)
    assert read_from_filename(str(tmp_path / "openapi.yaml"))[0] == document


def test_a_body_has_one_named_schema_for_all_its_media_types(document: Any) -> None:
    for path, method, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        names = {media["schema"].get("$ref") for kind, media in content.items() if kind != "text/csv"}
        assert len(names) <= 1, (method, path)
        assert None not in names, (method, path)


def test_integers_have_formats_and_answers_may_grow(document: Any) -> None:
    def schemas(value: Any) -> Any:
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from schemas(one)
        if isinstance(value, dict):
            yield value

    for one in schemas(document):
        assert one.get("type") != "integer" or {"format", "minimum", "maximum"} <= one.keys(), one
    named = document["components"]["schemas"]
    assert named["Stuff"]["properties"]["sid"]["format"] == "int32"
    assert named["Change"]["properties"]["aid"]["format"] == "int64"
    assert "additionalProperties" not in named["Stuff"]
    assert named["PostStuff"]["additionalProperties"] is False


def test_a_parameter_is_described_where_viewers_look_and_has_the_example(document: Any) -> None:
    parameters = {one["name"]: one for one in document["paths"]["/stuff"]["get"]["parameters"]}
    assert parameters["filter"]["description"].startswith("A SQL LIKE pattern")
    assert "description" not in parameters["filter"]["schema"]
    assert parameters["filter"]["example"] == "C%"
    assert {"If-None-Match", "Prefer", "Consistency-Token"} <= parameters.keys()
    live = document["paths"]["/live"]["get"]
    assert [one["name"] for one in live["parameters"]] == ["If-None-Match"]
    assert not live["responses"].keys() & {"503", "504"}


@pytest.mark.internal
def test_passwords_have_bounds(document: Any) -> None:
    found = [each for each in _all(document) if each.get("format") == "password"]
    assert len(found) > 5
    assert all({"minLength", "maxLength", "pattern"} <= each.keys() for each in found)
    assert (
        document["components"]["schemas"]["UserIn"]["properties"]["password"]["minLength"] == 4
    )  # PASSWORD_LENGTH of the tests


@pytest.mark.internal
def test_a_new_password_is_as_long_as_configured(document: Any) -> None:
    from app import app

    shortest = document["components"]["schemas"]["UserIn"]["properties"]["password"]["minLength"]
    assert shortest == app.config["PASSWORD_LENGTH"]


def _all(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON text."""
    if isinstance(part, dict):
        yield part
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _all(one)


def test_the_document_has_every_route_and_no_other(document: Any) -> None:
    from app import app

    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    said = {(path, method.upper()) for path, method, _ in operations(document)}
    assert said == {(path, method) for path, method in rules if method not in ("HEAD", "OPTIONS")}


def test_every_operation_says_what_it_does_takes_and_gives(document: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert 0 < len(operation["summary"]) <= 80, where
        successes = [status for status in operation["responses"] if status < "300"]
        assert len(successes) == 1, where
        response = operation["responses"][successes[0]]
        assert ("content" in response) == (successes != ["204"] and path != "/register"), where
        assert ("404" in operation["responses"]) or "{" not in path, where
        assert (method == "post") <= ("422" in operation["responses"]) or where in SHOWN_ONCE, where


def test_a_creation_links_to_what_may_be_done_with_the_new_resource(document: Any) -> None:
    links = document["paths"]["/owned/{uid}"]["post"]["responses"]["201"]["links"]
    assert links.keys() == {f"{method}_owned_uid_oid" for method in ("get", "put", "patch", "delete")}
    assert links["get_owned_uid_oid"]["parameters"] == {"oid": "$response.body#/oid", "uid": "$request.path.uid"}


def test_an_operation_has_the_bounds_of_its_types(document: Any) -> None:
    parameters = {one["name"]: one["schema"] for one in document["paths"]["/stuff"]["get"]["parameters"]}
    assert parameters["limit"] == {"type": "integer", "format": "int32", "minimum": 1, "maximum": 1000, "default": 100}
    assert parameters["sort"]["enum"] == ["sid", "-sid", "stuff", "-stuff"]
    text = document["components"]["schemas"]["PostStuff"]["properties"]["stuff"]
    assert (text["minLength"], text["maxLength"]) == (1, 512)
    assert re.match(text["pattern"], "any text\n") is not None
    assert re.match(text["pattern"], "a\0b") is None


@pytest.mark.parametrize("operation", EXAMPLES)
def test_an_example_is_what_is_answered(client: Any, operation: str, document: Any) -> None:
    method, path = operation.split()
    example = EXAMPLES[operation]
    told = document["paths"][path][method.lower()]["responses"][str(example["status"])]
    asks = {"json": example["json"]} if "json" in example else {"data": example["query"]} if "query" in example else {}
    headers = basic(*example["as"].split(":")) if "as" in example else {}
    if "token" in example:
        headers = bearer(client.get("/login", 200, headers=headers).json)
    if "refresh" in example.get("json", {}):
        asks["json"] = client.post("/login", 201, json={"login": "calvin", "pword": "hobbes", "refresh": True}).json
        asks["json"] = {"refresh": asks["json"]["refresh"]}
    if path == "/totp/confirm":
        asks = {"json": {"otp": digits(client.post("/totp", 201, headers=headers).json["secret"])}}
    answer = client.request(method, path.format(**example.get("path", {})), example["status"], headers=headers, **asks)
    assert ("Location" in answer.headers) == ("Location" in told["headers"])
    if "body" in example:
        said = json.loads(answer.text.replace(f'"{MOUNT}/', '"/')) if MOUNT else answer.json  # links begin where it is mounted
        assert masked(said) == masked(example["body"])
        assert told["content"]["application/json"]["example"] == example["body"]
    else:
        assert answer.text == ""


def test_every_operation_that_answers_json_has_an_example(document: Any) -> None:
    for path, method, operation in operations(document):
        kinds = {kind for status, one in operation["responses"].items() if status < "300" for kind in one.get("content", {})}
        if kinds == {"application/json"} and path != "/openapi.json":
            assert f"{method.upper()} {path}" in EXAMPLES


@pytest.mark.internal
def test_the_generated_pages_are_fresh() -> None:
    from app import app

    for name, page in openapi.pages(app.extensions["contract"]).items():
        assert (HERE / "docs" / name).read_text() == page, "run make docs"


@pytest.mark.internal
def test_the_commands_print_and_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app

    run = app.test_cli_runner().invoke
    assert run(args=["api"]).output == openapi.table(app.extensions["contract"])
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(app, "root_path", str(tmp_path))
    assert run(args=["docs"]).exit_code == 0
    assert (tmp_path / "docs" / "api.md").read_text() == (HERE / "docs" / "api.md").read_text()


def test_the_catalogue_has_every_code_that_is_used() -> None:
    used = set()
    for path in [*HERE.glob("routes/*.py"), *HERE.glob("engine/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Problem":
                used |= {one.value for one in node.args[2:3] if isinstance(one, ast.Constant)}
                used |= {one.value.value for one in node.keywords if one.arg == "code" and isinstance(one.value, ast.Constant)}
    used |= set(re.findall(r"HINT = '(\w+)'", CREATE))
    used |= {"invalid_parameter", "duplicate", "insecure_transport"}  # of errors.answer
    assert {code for code in used if code} == set(SPECIFIC)
    assert not set(SPECIFIC) & {code for code, _ in CODES.values()}


# the pages for people


@pytest.mark.parametrize("page", ["/docs", "/console"])
def test_a_page_takes_nothing_from_elsewhere_and_no_inline_script(client: Any, page: str) -> None:
    response = client.get(page, 200, headers={"Accept": "text/html"})
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for element in re.findall(r"<script.*?</script>", response.text, re.DOTALL):
        assert re.fullmatch(r'<script (type="module" )?src="[^":]+"></script>', element)
    linked = re.findall(r'(?:src|href)="([^"]*)"', response.text)
    assert linked
    for path in linked:
        assert not path.startswith("/")  # relative, to work behind a prefix
        client.get("/" + path, 200)


@pytest.mark.parametrize("file", ["VERSION", "index.html", "..%2f..%2fapp.py", "x/..", "x"])
def test_nothing_else_is_sent(client: Any, file: str) -> None:
    client.get(f"/docs/{file}", 404)


def test_the_page_is_not_for_who_wants_json(client: Any) -> None:
    client.get("/docs", 406, headers={"Accept": "application/json"})
    client.get("/openapi.json", 406, headers={"Accept": "text/html"})


CONSOLE = HERE / "engine" / "openapi" / "console"
ROOMS = [path for path in CONSOLE.iterdir() if path.suffix in (".js", ".css", ".html") and path.name != "preact.js"]


def test_the_console_makes_no_markup_of_texts_and_keeps_nothing(client: Any) -> None:
    policy = client.get("/console", 200, headers={"Accept": "text/html"}).headers["Content-Security-Policy"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    for path in ROOMS:
        text = path.read_text()
        assert not re.search(r"innerHTML|\beval\b|new Function|localStorage|sessionStorage|document\.cookie|https?:", text), (
            path.name
        )


@pytest.mark.parametrize("path", ["/console/main.js", "/docs/swagger-ui.css", "/openapi.json"])
def test_a_file_is_compressed_for_who_takes_it(raw: Any, path: str) -> None:
    small, large = (raw("GET", path, Accept_Encoding=coding) for coding in ("gzip", "identity"))
    assert (small.headers["Content-Encoding"], large.headers.get("Content-Encoding")) == ("gzip", None)
    assert int(small.headers["Content-Length"]) < int(large.headers["Content-Length"]) / 2
    assert "Accept-Encoding" in small.headers["Vary"]
    assert small.headers["Vary"] == large.headers["Vary"]
    assert small.headers["ETag"] != large.headers["ETag"]


def test_the_files_of_the_console_are_sent_and_name_no_other(client: Any) -> None:
    for path in [*ROOMS, CONSOLE / "preact.js"]:
        if path.suffix != ".html":
            assert client.get(f"/console/{path.name}", 200).text == path.read_text()
        for named in re.findall(r"""from "([^"]*)";""", path.read_text()):
            assert (CONSOLE / named).exists(), (path.name, named)


def test_the_console_is_small_and_its_library_the_one_that_is_named() -> None:
    lines = [
        line for path in ROOMS for line in path.read_text().splitlines() if line.strip() and not line.strip().startswith("//")
    ]
    assert len(lines) < 800
    digest = hashlib.sha256((CONSOLE / "preact.js").read_bytes()).hexdigest()
    assert f"preact.js sha256 {digest}\n" in (CONSOLE / "VERSION").read_text()


def test_an_operation_says_who_may_call_it(document: Any) -> None:
    said = {where: document["paths"][where]["get"]["x-authorize"] for where in ("/stuff", "/whoami", "/users", "/users/{uid}")}
    assert said == {"/stuff": ["OPEN"], "/whoami": ["AUTH"], "/users": ["ADMIN"], "/users/{uid}": ["ADMIN or self"]}


def test_a_list_says_that_it_comes_as_csv_too(document: Any) -> None:
    said = {where for where, item in document["paths"].items() if "x-also-produces" in item.get("get", {})}
    assert {"/stuff", "/users", "/audit"} <= said
    assert "/stuff/{sid}" not in said


# what a route may declare, on an application of its own


@pytest.fixture
def small() -> Any:
    app = flask_class()("small", root_path=str(HERE), static_folder=None)
    app.config.update(
        VERSION="0", FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none", "basic", "token"], CORS_ORIGINS=[], FSA_REALM="small"
    )
    app.config["REQUIRE_IF_MATCH"] = False
    openapi.init_app(app)
    errors.init_app(app)
    wire.init_app(app)
    app.last = [wire.finish]
    app.get_user_pass(lambda login: None)
    app.object_perms("user", lambda login, uid, mode: False)

    @app.get("/old/<sid>", authorize="OPEN")
    @wire.declare(deprecated=datetime(2026, 1, 1, tzinfo=UTC), sunset=datetime(2027, 1, 1, tzinfo=UTC))
    def get_old(sid: Key) -> Stuff:
        """Read the old way.

        Use another one.
        """
        return {"sid": sid, "stuff": "old"}

    @app.post("/files", authorize="OPEN")
    def post_files(file: FileStorage, note: StuffText = StuffText("none")) -> wire.Created[dict[str, Any]]:
        """Send a file."""
        return wire.created({"before": wire.given(), "size": len(file.read())}, "/files/1")  # type: ignore[no-any-return]

    @app.post("/pings", authorize="OPEN")
    def post_pings() -> None:
        """Do nothing."""

    @app.get("/mine", authorize="AUTH", auth=["basic"])
    def get_mine(plain="x"):  # type: ignore[no-untyped-def]
        """Read what is mine."""

    @app.get("/his", authorize=["AUTH", ("user", "uid")], auth="token")
    def get_his(uid: int) -> str:
        """Read what is his."""
        return "his"

    return app


@pytest.mark.internal
def test_a_deprecated_route_says_so_in_its_answers_and_in_the_document(small: Any) -> None:
    response = small.test_client().get("/old/5")
    assert response.headers["Deprecation"] == "@1767225600"
    assert response.headers["Sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
    document = json.loads(small.json.dumps(small.extensions["contract"].document))
    validate(document)
    operation = document["paths"]["/old/{sid}"]["get"]
    assert operation["deprecated"] is True
    assert {"Deprecation", "Sunset"} <= operation["responses"]["200"]["headers"].keys()
    assert "2027-01-01" in operation["description"]


@pytest.mark.internal
def test_a_file_is_told_apart_by_its_content(small: Any) -> None:
    def send(content: bytes) -> Any:
        return small.test_client().post("/files", data={"file": (BytesIO(content), "x.txt"), "note": "n"}).json

    one, two = send(b"one"), send(b"other")
    assert one["size"] == 3
    assert one["before"]["note"] == "n"
    assert one["before"]["file"] != two["before"]["file"]
    assert one == send(b"one")


@pytest.mark.internal
def test_rules_and_schemes_become_security(small: Any) -> None:
    document = small.extensions["contract"].document
    assert document["paths"]["/old/{sid}"]["get"]["security"] == []
    assert document["paths"]["/mine"]["get"]["security"] == [{"basic": []}]
    assert document["paths"]["/his"]["get"]["security"] == [{"bearer": []}]
    assert "requestBody" not in document["paths"]["/pings"]["post"]
    assert {"401", "403", "429"} <= document["paths"]["/his"]["get"]["responses"].keys()
    assert "| /his | GET | AUTH self | uid | 200 400 401 403 | text |" in openapi.table(small.extensions["contract"])


class Colour(enum.Enum):
    RED = "red"


class Stuff2:
    """A class that is made from a text by a cast."""


@pytest.fixture
def plain(small: Any) -> Any:
    """Routes with types that are not ours, and their document."""

    def twin() -> Any:
        class Stuff(TypedDict):  # as another one is called
            weight: float

        def get_twin() -> list[Stuff]:
            """Read the twins."""
            return []

        return get_twin

    small.cast(Stuff2, lambda _: Stuff2())
    small.get("/twin", authorize="OPEN")(twin())
    small.get("/other/twin", authorize="OPEN", endpoint="other.get_twin")(twin())

    @small.get("/plain", authorize="OPEN")
    def get_plain(  # type: ignore[no-untyped-def]
        text: str, flag: bool = False, part: float = 0.5, day: date = date(2026, 1, 31), colour: Colour = Colour.RED,
        cast: Stuff2 | None = None, number=5, name: Cookie = Cookie("x"), x_mark: Header = Header("x"), **others: Any,
    ):  # fmt: skip
        """Read."""
        return {"flag": flag}

    @small.post("/plain", authorize="OPEN")
    def post_plain(
        some: JsonData, items: list[int], nested: Colour | None = None, flag: bool = False, **others: Any
    ) -> dict[str, int]:
        """Write."""
        return {"sum": sum(items)}

    return json.loads(small.extensions["contract"].text)


@pytest.mark.internal
def test_any_type_that_flasksimpleauth_takes_is_described(plain: Any) -> None:
    validate(plain)
    get = plain["paths"]["/plain"]["get"]
    found = {one["name"]: (one["in"], one["required"], one["schema"]) for one in get["parameters"]}
    assert found["text"] == ("query", True, {"type": "string"})
    assert found["flag"] == ("query", False, {"type": "boolean", "default": False})
    assert found["part"] == ("query", False, {"type": "number", "default": 0.5})
    assert found["day"] == ("query", False, {"type": "string", "format": "date", "default": "2026-01-31"})
    assert found["cast"] == ("query", False, {"type": "string"})
    assert found["number"] == ("query", False, {"type": "integer", "default": 5})
    assert found["name"] == ("cookie", False, {"type": "string"})
    assert found["x-mark"] == ("header", False, {"type": "string"})
    assert found["colour"] == ("query", False, {"$ref": "#/components/schemas/Colour", "default": "red"})
    assert found["parameters"][2] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert get["responses"]["200"]["content"] == {"application/json": {"schema": {}}}
    body = plain["paths"]["/plain"]["post"]["requestBody"]["content"]
    assert body.keys() == {"application/json"}
    schema = plain["components"]["schemas"]["PostPlain"]
    assert schema["additionalProperties"] is True
    assert schema["required"] == ["some", "items"]
    assert schema["properties"]["some"] == {"description": "Any JSON value"}
    assert schema["properties"]["items"] == {"type": "array", "items": {"type": "integer"}}
    assert schema["properties"]["flag"] == {"type": "boolean", "default": False}
    assert schema["properties"]["nested"] == {"anyOf": [{"$ref": "#/components/schemas/Colour"}, {"type": "null"}]}
    file = plain["paths"]["/files"]["post"]["requestBody"]["content"]
    assert file == {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/PostFiles"}}}
    assert plain["components"]["schemas"]["PostFiles"]["properties"]["file"] == {"type": "string", "format": "binary"}


@pytest.mark.internal
def test_two_of_one_name_are_told_apart(plain: Any) -> None:
    named = plain["components"]["schemas"]
    assert named["Stuff"]["properties"].keys() == {"sid", "stuff"}
    assert named["Stuff2"]["properties"].keys() == {"weight"}
    one, other = (plain["paths"][path]["get"] for path in ("/twin", "/other/twin"))
    assert one["operationId"] == "get_twin"
    assert other["operationId"] == "get_twin_other_twin"
    for operation in (one, other):
        items = operation["responses"]["200"]["content"]["application/json"]["schema"]["items"]
        assert items == {"$ref": "#/components/schemas/Stuff2"}


@pytest.mark.internal
def test_two_versions_are_served_side_by_side_each_below_its_prefix() -> None:
    from werkzeug.exceptions import NotFound
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client

    from app import app

    both = Client(DispatcherMiddleware(NotFound(), {"/api/v1": app, "/api/v2": app}))
    for prefix in ("/api/v1", "/api/v2"):
        made = both.post(f"{prefix}/stuff", json={"stuff": f"Lamp of {prefix}"}, headers={"Idempotency-Key": "one"})
        assert made.status_code == 201
        assert "Idempotency-Replayed" not in made.headers
        assert made.headers["Location"].startswith(f"{prefix}/stuff/")
        assert both.get(made.headers["Location"]).json["stuff"] == f"Lamp of {prefix}"  # type: ignore[index]
        link = both.get(f"{prefix}/stuff?limit=1").headers["Link"]
        assert link.startswith(f"<{prefix}/stuff?")
        assert both.get(link[1:].split(">")[0]).status_code == 200
        assert both.get(f"{prefix}/openapi.json").json["servers"] == [{"url": "."}]  # type: ignore[index]
        problem = both.get(f"{prefix}/stuff/99", headers={"Accept": "application/problem+json"}).json
        assert problem["instance"] == f"{prefix}/stuff/99"  # type: ignore[index]
    assert both.get("/stuff").status_code == 404
