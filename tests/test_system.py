"""What a client may rely on with every answer, whatever the route; and what the server says about itself."""

import re
from typing import Any

import pytest
from conftest import below


def test_version_says_what_runs(client: Any, sql: Any) -> None:
    version = client.get("/version", 200).json
    assert version.keys() == {"app", "version", "schema", "now", "user", "id", "groups"}
    assert version["app"] == "stuff"
    assert version["user"] is None
    assert [(version["schema"],)] == sql("SELECT max(version) FROM Schema_Version WHERE component = 'application'")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d", version["now"])


def test_the_root_says_what_this_is_and_where_to_begin(client: Any) -> None:
    response = client.get("/", 200)
    assert (response.json["name"], response.json["version"]) == ("stuff", client.get("/version", 200).json["version"])
    links = response.json["links"]
    assert links.keys() >= {"docs", "console", "openapi", "stuff", "users", "owned", "audit"}
    for path in ("docs", "console", "openapi", "stuff"):
        client.get(below(links[path]), 200)
    assert "Accept" in response.headers["Vary"]


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"])
def test_a_browser_is_sent_from_the_root_to_the_page(raw: Any, accept: str) -> None:
    response = raw("GET", "/", Accept=accept)
    assert response.status_code == 303
    assert below(response.headers["Location"]) == "/docs"
    assert "Accept" in response.headers["Vary"]


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/html;q=0.9", "application/problem+json", "*/*"])
def test_others_are_not(client: Any, accept: str) -> None:
    client.get("/", 200, headers={"Accept": accept})


def test_live_and_ready(client: Any) -> None:
    assert client.get("/live", 200).json == {"live": True}
    assert client.get("/ready", 200).json["ready"] is True


@pytest.mark.parametrize("component", ["engine", "application"])
def test_an_outdated_schema_is_not_ready(client: Any, sql: Any, component: str) -> None:
    old = "DELETE FROM Schema_Version WHERE component = %s AND version > 1 RETURNING version, name, checksum, applied"
    rows = sql(old, component)
    try:
        response = client.get("/ready", 503)
        assert response.json["code"] == "schema_outdated"
        assert f"of the {component} is needed, 1 was found" in response.json["error"]
        assert response.headers["Retry-After"]
        client.get("/live", 200)
    finally:
        for row in rows:
            sql("INSERT INTO Schema_Version VALUES (%s, %s, %s, %s, %s)", *row, component)


def test_a_schema_of_one_track_is_told_and_not_ready(client: Any, sql: Any) -> None:
    sql("ALTER TABLE Schema_Version RENAME TO Elsewhere")
    try:
        row = "version, name, checksum, applied"
        sql(f"CREATE TABLE Schema_Version AS SELECT {row} FROM Elsewhere WHERE component = 'application'")
        assert client.get("/version", 200).json["schema"] == sql("SELECT max(version) FROM Schema_Version")[0][0]
        assert "of the engine is needed, 0 was found" in client.get("/ready", 503).json["error"]
    finally:
        sql("DROP TABLE IF EXISTS Schema_Version")
        sql("ALTER TABLE Elsewhere RENAME TO Schema_Version")


# every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/stuff", 200),
        ("GET", "/stuff/1", 200),
        ("GET", "/stuff/99", 404),
        ("GET", "/nope", 404),
        ("PATCH", "/stuff", 405),
        ("POST", "/stuff", 400),
        ("DELETE", "/stuff/1", 204),
        ("OPTIONS", "/stuff", 200),
        ("HEAD", "/stuff", 200),
    ],
)
def test_every_answer_has_its_headers(client: Any, method: str, path: str, status: int) -> None:
    headers = client.request(method, path, status, headers={"X-Request-Id": "abc-1.2_Z"}).headers
    assert headers["X-Request-Id"] == "abc-1.2_Z"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == ("no-cache" if "ETag" in headers else "no-store")
    assert "X-Powered-By" not in headers
    assert headers.get("Content-Type") == (None if method == "OPTIONS" or status == 204 else "application/json")


@pytest.mark.parametrize("given", [None, "", "a" * 65, "a b", "é", "a;b", '"'])
def test_a_request_without_a_fit_id_gets_one(client: Any, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode().decode("latin1")}
    ids = {client.get("/live", 200, headers=headers).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[A-Za-z0-9._-]{1,64}", one) for one in ids)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/stuff/", 404, "not_found"),
        ("GET", "/stuff/99", 404, "not_found"),
        ("PATCH", "/stuff", 405, "method_not_allowed"),
        ("POST", "/stuff/1", 405, "method_not_allowed"),
        ("BREW", "/stuff", 405, "method_not_allowed"),
        ("GET", "/stuff?limit=0", 400, "invalid_parameter"),
        ("POST", "/stuff", 400, "invalid_parameter"),
    ],
)
@pytest.mark.parametrize("problem", [False, True])
def test_every_error_has_the_one_body(client: Any, method: str, path: str, status: int, code: str, problem: bool) -> None:
    headers = {"Accept": "application/problem+json"} if problem else {}
    response = client.request(method, path, status, headers=headers)
    body = response.json
    assert isinstance(body["error"], str)
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response.headers["X-Request-Id"]
    if status == 405:
        assert "GET" in response.headers["Allow"]
    if problem:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert body.keys() >= {"type", "title", "detail", "instance"}
        assert body["detail"] == body["error"]
    else:
        assert response.headers["Content-Type"] == "application/json"


def test_all_faults_are_named_at_once(client: Any) -> None:
    response = client.get("/stuff?limit=x&sort=y&after=z&filter=%5C&colour=red", 400)
    assert sorted(fault["field"] for fault in response.json["errors"]) == ["after", "colour", "filter", "limit", "sort"]
    assert all(fault["message"] in response.json["error"] for fault in response.json["errors"])


@pytest.mark.parametrize("path", ["/live?x=1", "/version?x=1", "/stuff?x=1", "/stuff/1?x=1"])
def test_an_unknown_parameter_is_refused(client: Any, path: str) -> None:
    assert client.get(path, 400).json["error"] == 'parameter "x" is unexpected'


def test_the_same_name_twice_is_refused(client: Any, raw: Any) -> None:
    twice = 'parameter "stuff" comes more than once'
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert client.get("/stuff?limit=1&limit=1", 400).json["error"] == 'parameter "limit" comes more than once'
    assert client.post("/stuff?stuff=a", 400, json={"stuff": "b"}).json["error"] == twice
    assert client.post("/stuff?stuff=a", 400, data={"stuff": "b"}).json["error"] == twice
    assert raw("POST", "/stuff", b"stuff=a&stuff=b", **form).json["error"] == twice
    assert raw("PUT", "/stuff/1?sid=1", b"stuff=a", **form).status_code == 400
    assert client.get("/stuff", 200).json[0]["stuff"] == "Chair"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"x",
        b"[1]",
        b'"x"',
        b"null",
        b"5",
        b'{"stuff": NaN}',
        b'{"stuff": Infinity}',
        b'{"stuff": "a", "stuff": "b"}',
        b"\xff",
        b'{"stuff": "a"} x',
        b"[" * 200_000,
        b'{"stuff":' * 100_000,
        b'{"stuff": ' + b"9" * 5000 + b"}",
        "{'a':1}".encode("utf-16"),
    ],
)
def test_a_json_body_is_an_object_and_well_formed(raw: Any, body: bytes) -> None:
    response = raw("POST", "/stuff", body, Content_Type="application/json")
    assert response.status_code == 400
    assert response.json["error"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"&".join(b"n%d=1" % i for i in range(100_000))),
        ("application/x-www-form-urlencoded", b"a&" * 100_000),
        ("application/json", b"{" + b",".join(b'"n%d":1' % i for i in range(100_000)) + b"}"),
    ],
)
def test_a_request_has_100_parameters_at_most(raw: Any, kind: str, body: bytes) -> None:
    response = raw("POST", "/stuff", body, Content_Type=kind)
    assert response.status_code == 400
    assert response.json["error"] == "more than 100 parameters"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_an_empty_body_has_no_type(raw: Any, kind: str) -> None:
    assert raw("DELETE", "/stuff/1", b"", Content_Type=kind).status_code == 204


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/html", "application/xml", "application/octet-stream", "application/jsonx"]
)
def test_another_type_of_body_is_415(raw: Any, kind: str) -> None:
    assert raw("POST", "/stuff", b"stuff=a", Content_Type=kind).status_code == 415


@pytest.mark.parametrize("body", [b"stuff=%FF", b"stuff=%C3%28", b"stuff=\xff"])
def test_parameters_are_utf8(raw: Any, body: bytes) -> None:
    assert raw("POST", "/stuff", body, Content_Type="application/x-www-form-urlencoded").status_code == 400
    assert raw("GET", "/stuff?filter=" + "%FF").status_code == 400


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("application/*", 200),
        ("text/html, */*;q=0.1", 200),
        ("application/problem+json", 200),
        ("text/html", 406),
        ("image/png", 406),
        ("application/json;q=0", 406),
        ("application/json;charset=utf-8", 200),
        ("application/json; version=1; q=0.5, text/html", 200),
        ("*/*, application/json;q=0", 200),
        ("*/*;q=0", 406),
        ("application/json;q=0, application/problem+json;q=0, text/csv;q=0, */*", 406),
        ("APPLICATION/JSON", 200),
    ],
)
def test_accept_is_honoured(client: Any, accept: str, status: int) -> None:
    client.get("/stuff", status, headers={"Accept": accept})


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/metrics", "text/plain", 200),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", 200),
        ("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", 200),
        ("/docs", "text/html;charset=utf-8", 200),
        ("/docs", "text/*", 200),
        ("/metrics", "application/json", 406),
        ("/docs", "application/json", 406),
    ],
)
def test_parameters_of_accept_are_passed_over(client: Any, calvin: dict[str, str], path: str, accept: str, status: int) -> None:
    response = client.get(path, status, headers=calvin | {"Accept": accept})
    if status == 406:
        kind = {"/metrics": "text/plain", "/docs": "text/html"}[path]
        assert response.json["error"] == f"this resource is only available as {kind}"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/problem+json", "application/problem+json"),
        ("application/problem+json;charset=utf-8, */*", "application/problem+json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("application/json, application/problem+json;q=0", "application/json"),
        ("application/json, application/problem+json;q=0.5", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_problem_details_come_to_who_likes_them_no_less_than_json(client: Any, accept: str, kind: str) -> None:
    assert (
        client.get("/stuff/99", 404 if accept != "text/html" else 406, headers={"Accept": accept}).headers["Content-Type"]
        == kind
    )


@pytest.mark.parametrize("accept", ["text/html", "image/png", "application/json;q=0"])
def test_a_path_that_is_no_route_is_404_whatever_is_accepted(client: Any, accept: str) -> None:
    client.get("/nope", 404, headers={"Accept": accept})
    client.post("/stuff/1", 405, headers={"Accept": accept})


def test_every_answer_says_what_it_depends_on(client: Any) -> None:
    assert set(re.split(", *", client.get("/stuff", 200).headers["Vary"])) == {"Accept", "Prefer", "Origin"}
    for path, status in (("/stuff/1", 200), ("/stuff/99", 404), ("/nope", 404)):
        assert "Accept" in re.split(", *", client.get(path, status).headers["Vary"])


def test_an_answer_without_a_body_has_no_type(client: Any, calvin: dict[str, str]) -> None:
    answers = [
        client.put("/stuff/1", 204, json={"stuff": "Stool"}),
        client.delete("/login", 204, headers=calvin),
        client.post("/register", 201, json={"login": "moe", "pword": "twinky-1985"}),
        client.request("OPTIONS", "/stuff", 200),
    ]
    assert [(one.text, one.headers.get("Content-Type")) for one in answers] == [("", None)] * 4
    assert "POST" in answers[3].headers["Allow"]


def test_a_body_over_the_limit_is_413(raw: Any) -> None:
    response = raw("POST", "/stuff", b'{"stuff": "' + b"x" * (3 * 1024 * 1024) + b'"}', Content_Type="application/json")
    assert response.status_code == 413
    assert response.json["code"] == "body_too_large"


def test_head_is_get_without_a_body(client: Any) -> None:
    get, head = client.get("/stuff", 200), client.request("HEAD", "/stuff", 200)
    assert head.text == ""
    assert {k: v for k, v in get.headers.items() if k in ("ETag", "Content-Type", "Content-Length")} == {
        k: v for k, v in head.headers.items() if k in ("ETag", "Content-Type", "Content-Length")
    }
