"""The leaner stand-ins: what they leave out is missed by nobody."""

from collections.abc import Callable
from typing import Any, cast

import pytest

pytestmark = pytest.mark.internal


@pytest.fixture(autouse=True)
def connected() -> None:
    """The database that routes verify their caller in."""
    import app  # noqa: F401


@pytest.fixture(params=["fast", "plain"])
def app(request: pytest.FixtureRequest) -> Any:
    """An application with nothing in it, of either class."""
    from engine.fast import flask as fast
    from engine.http import errors
    from engine.http import flask as plain

    kind: Any = fast.Flask if request.param == "fast" else plain.Flask
    app = kind(request.param, FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none"])
    errors.init_app(app)
    return app


def test_hooks_run_in_flask_s_order(app: Any) -> None:
    from FlaskSimpleAuth import Blueprint

    ran: list[str] = []

    def note(what: str) -> Callable[..., Any]:
        def hook(*given: Any) -> Any:
            ran.append(what)
            return given[0] if given else None

        return hook

    part = Blueprint("part", "part")
    part.get("/here", authorize="OPEN")(lambda: {"here": True})
    for where, owner in (("app", app), ("part", part)):
        owner.before_request(note(f"before {where} 1"))
        owner.before_request(note(f"before {where} 2"))
        owner.after_request(note(f"after {where} 1"))
        owner.after_request(note(f"after {where} 2"))
        owner.teardown_request(note(f"teardown {where}"))
    app.register_blueprint(part)
    app.first.append(note("first"))
    app.last.append(note("last"))
    assert app.test_client().get("/here").json == {"here": True}
    assert ran == [
        "first",
        "before app 1", "before app 2", "before part 1", "before part 2",
        "after part 2", "after part 1", "after app 2", "after app 1", "last",
        "teardown part", "teardown app",
    ]  # fmt: skip


def test_a_hook_that_answers_ends_the_request(app: Any) -> None:
    app.get("/here", authorize="OPEN")(lambda: {"here": True})
    app.before_request(lambda: ({"stop": True}, 403))
    response = app.test_client().get("/here")
    assert (response.status_code, response.json) == (403, {"stop": True})


def test_a_path_is_matched_again_as_it_was_the_first_time(app: Any) -> None:
    from flask import request

    got: list[dict[str, Any]] = []

    def get(name: str) -> Any:
        got.append(dict(request.view_args or {}))
        cast(Any, request.view_args)["name"] = "spoilt"
        return {"name": name}

    app.get("/thing/<name>", authorize="OPEN")(get)
    app.get("/slash/", authorize="OPEN")(lambda: {"slash": True})
    client = app.test_client()
    for _ in range(3):
        assert client.get("/thing/a").json == {"name": "a"}
        assert client.get("/thing/b%20c").json == {"name": "b c"}
        assert client.post("/thing/a").status_code == 405
        assert client.get("/nothing").status_code == 404
        assert client.get("/slash?x=1").headers["Location"].endswith("/slash/?x=1")
        assert client.options("/thing/a").allow.as_set() == {"get", "head", "options"}
    assert got == [{"name": "a"}, {"name": "b c"}] * 3


def test_the_parameters_of_a_path_are_read_as_by_flask_simple_auth(app: Any) -> None:
    from datetime import date

    def get(name: str, day: date, number: int, size: int = 3) -> Any:
        return {"name": name, "day": day.isoformat(), "number": number, "size": size}

    def day_alone(day: date, size: int = 3) -> Any:
        return {"day": day.isoformat(), "size": size}

    app.get("/thing/<name>/<day>/<number>", authorize="OPEN")(get)
    app.get("/day/<day>", authorize="OPEN")(day_alone)
    client = app.test_client()
    assert client.get("/thing/a/2026-01-31/7").json == {"name": "a", "day": "2026-01-31", "number": 7, "size": 3}
    for query, size in ("", 3), ("?size=4", 4):
        assert client.get(f"/day/2026-01-31{query}").json == {"day": "2026-01-31", "size": size}
        refused = client.get(f"/day/2026-02-31{query}")
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, "day")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/thing/a", {"size": "7"}, 200),
        ("/thing/a", {}, 200),
        ("/thing/a", {"size": "no"}, 400),
        ("/thing/a", {"size": "7", "more": 1}, 400),
        ("/thing/a", {"name": "b"}, 400),
        ("/thing/a", {"here": "there"}, 400),
        ("/thing/a?size=7", {}, 200),
        ("/thing/a?size=7", {"size": "8"}, 200),
        ("/thing/a", [1], 400),
    ],
)
def test_parameters_in_json_are_read_as_by_flask_simple_auth(path: str, body: Any, status: int) -> None:
    import FlaskSimpleAuth as fsa  # noqa: N813

    from engine.fast import flask as fast
    from engine.http import errors

    class Text(str):
        pass

    class Size(str):
        def __new__(cls, value: str) -> "Size":
            return super().__new__(cls, value) if value.isdigit() else fsa.err("must be a number", 400)

    class Here(str):
        pass

    def post(name: Text, here: Here, size: Size = Size("1")) -> Any:
        return {"name": name, "size": size, "here": here}

    answers = []
    for kind in (fast.Flask, fsa.Flask):
        special = {Here: lambda _: Here("here")}
        app = kind("fast", FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none"], FSA_SPECIAL_PARAMETER=special)
        errors.init_app(app)
        app.post("/thing/<name>", authorize="OPEN")(post)
        answers.append(app.test_client().post(path, json=body))
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].json == answers[1].json


def test_special_parameters_may_be_optional_and_types_cast_as_configured(app: Any) -> None:
    class Here(str):
        pass

    class Size(int):
        pass

    def get(size: Size, here: Here | None = None) -> Any:
        return {"size": size, "here": here}

    app.config["FSA_SPECIAL_PARAMETER"] = {Here: lambda _: "here"}
    app.config["FSA_CAST"] = {Size: lambda text: Size(text.removesuffix("kB"))}
    app.get("/thing/<size>", authorize="OPEN")(get)
    assert app.test_client().get("/thing/7kB").json == {"size": 7, "here": "here"}


def test_what_is_to_be_done_after_this_request_is_done(app: Any) -> None:
    from flask import after_this_request

    def get() -> Any:
        @after_this_request
        def dress(response: Any) -> Any:
            response.headers["X-Dressed"] = "yes"
            return response

        return {}

    app.get("/here", authorize="OPEN")(get)
    app.get("/there", authorize="OPEN")(lambda: {"there": True})
    client = app.test_client()
    assert [client.get(path).headers.get("X-Dressed") for path in ("/here", "/there")] == ["yes", None]


def test_hooks_that_flask_simple_auth_is_told_of_are_run() -> None:
    from engine.fast import flask as fast

    ran: list[str] = []

    def note(response: Any) -> Any:
        ran.append("after")
        return response

    hooks = {"FSA_BEFORE_REQUEST": [lambda _: ("stop", 403)], "FSA_AFTER_REQUEST": [note]}
    app = fast.Flask("fast", FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none"], FSA_MODE="dev", **hooks)
    app.get("/here", authorize="OPEN")(lambda: {"here": True})
    assert (app.test_client().get("/here").status_code, ran) == (403, ["after"])


def test_what_is_known_of_paths_stays_small(app: Any) -> None:
    app.get("/thing/<name>", authorize="OPEN")(lambda name: {"name": name})
    client = app.test_client()
    for number in range(1100):
        assert client.get(f"/thing/{number}").json == {"name": str(number)}
    assert len(getattr(app, "known", ())) <= 1000


@pytest.mark.parametrize("status", [200, 201, 204, 304, 404])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_leaves_as_flask_would_send_it(status: int, method: str) -> None:
    import flask

    from engine.fast import flask as fast

    sent = []
    for kind in (flask.Response, fast.Response):
        response: Any = kind(b"text", status, {"Location": "/x", "X-Text": "\xe9"}, content_type="application/json")
        body = response({"REQUEST_METHOD": method}, lambda *head: sent.append(head))
        sent.append(b"".join(body))
    assert sent[:2] == sent[2:]


def test_what_is_to_be_done_when_an_answer_is_sent_is_done() -> None:
    from engine.fast import flask as fast

    closed: list[bool] = []
    response = fast.Response(b"text")
    response.call_on_close(lambda: closed.append(True))
    body: Any = response({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert (b"".join(body), closed) == (b"text", [])
    body.close()
    assert closed == [True]


def test_a_request_reads_its_environment_as_flask_s_does() -> None:
    import flask
    from werkzeug.test import create_environ

    from engine.fast import flask as fast

    for path in ("/stuff/1?x=%C3%A9&y=1", "//a/b/", "/é/€", "/%ff"):
        environ = create_environ(path, "http://api.example:8080/mount/", method="post", headers={"X-Some": "thing"})
        ours, theirs = fast.Request(environ, populate_request=False), flask.Request(environ, populate_request=False)
        assert "werkzeug.request" not in environ
        for name in ("method", "scheme", "server", "root_path", "path", "query_string", "remote_addr", "url", "host", "args"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert list(ours.headers) == list(theirs.headers)


def test_contexts_nest_as_flask_s_do(app: Any) -> None:
    import flask

    app.get("/thing/<name>", authorize="OPEN")(lambda name: {"url": flask.url_for("thing", name="b")})
    app.view_functions["thing"] = app.view_functions["<lambda>"]
    app.url_map.add(app.url_rule_class("/other/<name>", endpoint="thing"))
    client = app.test_client()
    with app.app_context() as outer:
        for _ in range(2):  # the second time, the path is known
            assert client.get("/thing/a").json == {"url": "/other/b"}
        with app.test_request_context("/thing/a"):
            assert flask.g._get_current_object() is outer.g
            assert flask.request.view_args == {"name": "a"}
    with app.test_request_context("/thing/a"):
        assert flask.g._get_current_object() is not outer.g


def test_contexts_end_as_flask_s_do(app: Any) -> None:
    import flask

    ended: list[BaseException | None] = []
    app.teardown_appcontext(ended.append)
    app.get("/thing/<name>", authorize="OPEN", endpoint="thing")(lambda name: {"name": name})
    app.config["SERVER_NAME"] = "api.example"
    with app.app_context():
        assert flask.url_for("thing", name="a") == "http://api.example/thing/a"
    assert ended == [None]
    context = app.test_request_context("/thing/a")
    with context:
        with context:  # as a view that is run with it a second time does
            pass
        assert ended == [None]
        assert flask.request.view_args == {"name": "a"}
    assert ended == [None, None]


def test_a_problem_in_a_hook_is_its_answer(app: Any) -> None:
    from engine.problem import Problem

    def refuse(*_: Any) -> Any:
        raise Problem(409, "not now")

    places: list[str] = []
    app.get("/here", authorize="OPEN")(lambda: {"here": True})
    client = app.test_client()
    app.before_request_funcs[None].append(lambda: refuse() if "before" in places else None)
    app.after_request(lambda answer: refuse() if "after" in places else answer)
    app.last.append(lambda answer: refuse() if "last" in places else answer)
    for place in ("", "before", "after", "last"):
        places[:] = [place]
        response = client.get("/here")
        assert (response.status_code, response.json.get("error")) == ((409, "not now") if place else (200, None)), place


def test_a_route_whose_transaction_was_undone_starts_over(app: Any) -> None:
    from engine.problem import Problem

    tries: list[int] = []

    def get() -> Any:
        tries.append(len(tries))
        if len(tries) % 4:
            raise Problem(503, retry=True)
        return {"tries": len(tries)}

    app.get("/here", authorize="OPEN")(get)
    client = app.test_client()
    assert client.get("/here").status_code == 503
    assert tries == [0, 1, 2]
    assert client.get("/here").json == {"tries": 4}


def test_a_route_that_starts_over_asks_its_hooks_again() -> None:
    from engine.http import errors
    from engine.http import flask as plain
    from engine.problem import Problem

    def get() -> Any:
        asked.append(True)
        raise Problem(503, retry=True)

    asked: list[bool] = []
    app = plain.Flask("plain", FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none"])
    errors.init_app(app)
    app.get("/here", authorize="OPEN")(get)
    app.before_request(lambda: ({"gone": True}, 410) if asked else None)
    assert app.test_client().get("/here").status_code == 410
    assert asked == [True]


@pytest.mark.parametrize(("environ", "versions", "module"), [
    ({"FAST": "0"}, {}, "engine.http.flask"),
    ({}, {"flask": "3.2.0"}, "engine.http.flask"),
    ({"FAST": "1"}, {}, "engine.fast.flask"),
])  # fmt: skip
def test_fast_serves_the_versions_it_is_proven_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, environ: Any, versions: Any, module: str
) -> None:
    from engine import fast

    monkeypatch.delenv("FAST", raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(fast, "version", lambda name: versions.get(name, fast.PROVEN[name] + "0"))
    assert fast.flask_class().__module__ == module
    assert [record.message for record in caplog.records] == (
        ["not proven for flask 3.2.0: served without engine/fast"] if versions else []
    )
