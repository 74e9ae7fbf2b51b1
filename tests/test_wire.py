"""What the server adds to routes, whichever they are."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest


@pytest.mark.parametrize("path", ["/stuff//1", "/stuff/1//"])
def test_a_slash_too_many_is_no_route(raw: Any, path: str) -> None:
    response = raw("GET", path)
    assert response.status_code == 404
    assert response.json["error"] == "no such route"


def test_parameters_may_come_as_a_multipart_form(raw: Any) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    assert raw("POST", "/stuff", part % (b"stuff", "Été".encode()) + b"--x--\r\n", **kind).json == {"sid": 3}
    assert raw("GET", "/stuff/3").json["stuff"] == "Été"
    assert raw("POST", "/stuff", part % (b"stuff", b"a") * 2 + b"--x--\r\n", **kind).status_code == 400


@pytest.mark.internal
def test_if_match_may_be_required_of_every_change(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app

    monkeypatch.setitem(app.config, "REQUIRE_IF_MATCH", True)
    assert client.put("/stuff/1", 428, json={"stuff": "Stool"}).json["code"] == "precondition_required"
    client.delete("/stuff/1", 428)
    client.put("/stuff/1", 204, json={"stuff": "Stool"}, headers={"If-Match": client.get("/stuff/1", 200).headers["ETag"]})
    client.delete("/stuff/1", 204, headers={"If-Match": "*"})


@pytest.mark.internal
def test_who_comes_in_clear_from_afar_is_refused_as_everybody_else(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    far = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_REQUEST_ID": "from-afar"}
    response = client._client.get("/stuff", environ_base=far)
    assert (response.status_code, response.json["code"]) == (403, "insecure_transport")
    assert response.json["request_id"] == response.headers["X-Request-Id"] == "from-afar"
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["address"], line["status"]) for line in logged if line["event"] == "request"] == [
        ("192.0.2.1", response.status_code)
    ]


@pytest.mark.internal
def test_values_become_json_without_a_loss() -> None:
    from app import app
    from engine.db.statement import Json

    value = {
        "number": Decimal("12345678901234567890.10"),
        "time": datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
        "day": date(2026, 1, 31),
        "made": Json(b'{"sid": 1}'),
        "text": "Été",
    }
    assert app.json.dumps(value) == (
        '{"number":"12345678901234567890.10","time":"2026-01-31T12:30:00+00:00","day":"2026-01-31",'
        '"made":{"sid":1},"text":"Été"}'
    )


@pytest.mark.internal
@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object()])
def test_what_json_cannot_say_is_an_error(value: Any) -> None:
    from app import app

    with pytest.raises((TypeError, ValueError)):
        app.json.dumps({"value": value})


@pytest.mark.internal
def test_a_route_may_say_itself_how_long_it_may_be_cached() -> None:
    from app import app
    from engine.http.response import Response
    from engine.http.wire import finish

    with app.test_request_context("/"):
        headers = finish(Response("x", headers={"Cache-Control": "max-age=60"})).headers
    assert headers["Cache-Control"] == "max-age=60"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.internal
@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HTTP_HOST": ""}, 400),
        ({"HTTP_HOST": "a,b"}, 400),
        ({"HTTP_HOST": "", "SERVER_PROTOCOL": "HTTP/1.0"}, 200),
        ({"PATH_INFO": "/" + "x" * 8000}, 414),
        ({"QUERY_STRING": "filter=" + "x" * 8000}, 414),
    ],
)
def test_a_request_names_one_host_and_a_short_target(client: Any, environ: dict[str, str], status: int) -> None:
    response = client._client.get("/stuff", environ_overrides=environ)
    assert response.status_code == status
    assert status == 200 or response.json["status"] == status


@pytest.mark.internal
@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        ("/stuff", "application/json", b'{"stuff": "chunk"}', 201),
        ("/stuff", "application/x-www-form-urlencoded", b"stuff=chunk", 411),
        ("/stuff/batch", "text/csv", b"stuff\r\nchunk\r\n", 411),
    ],
)
def test_a_chunked_body_has_an_end_of_its_own(client: Any, path: str, kind: str, body: bytes, status: int) -> None:
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(body)}
    response = client._client.post(path, content_type=kind, environ_overrides=environ)
    assert response.status_code == status
    assert str(status) in client.get("/openapi.json", 200).json["paths"][path]["post"]["responses"]
