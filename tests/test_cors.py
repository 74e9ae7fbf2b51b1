"""What pages of other origins may do; the tests' configuration allows two origins."""

from typing import Any

import pytest

SHOP = "https://shop.example"


def granted(response: Any) -> set[str]:
    return {name.title() for name in dict(response.headers) if name.lower().startswith("access-control-")}


@pytest.mark.parametrize(("path", "status"), [("/stuff", 200), ("/stuff/99", 404), ("/nope", 404), ("/stuff?limit=0", 400)])
def test_a_configured_origin_may_read_every_answer_and_its_headers(client: Any, path: str, status: int) -> None:
    response = client.get(path, status, headers={"Origin": SHOP})
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert "Origin" in response.headers["Vary"]
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"ETag", "Link", "Location", "Retry-After", "X-Request-Id", "Idempotency-Replayed"} <= set(exposed)
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [None, "null", "*", "https://evil.example", "https://shop.example.evil.example", "http://shop.example", SHOP + ":444"],
)
def test_another_origin_may_nothing_yet_caches_are_told(client: Any, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    for method in ("GET", "OPTIONS"):
        response = client.request(method, "/stuff", 200, headers={**headers, "Access-Control-Request-Method": "POST"})
        assert granted(response) == set()
        assert "Origin" in response.headers["Vary"]


def test_a_preflight_tells_methods_and_headers(client: Any) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "if-match,content-type"}
    headers = client.request("OPTIONS", "/stuff/1", 200, headers=asks).headers
    assert {"GET", "PUT", "PATCH", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} <= set(
        headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert int(headers["Access-Control-Max-Age"]) > 0


def test_a_preflight_on_no_route_lets_the_page_hear_of_it(client: Any) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "traceparent"}
    headers = client.request("OPTIONS", "/nope", 204, headers=asks).headers
    assert headers["Access-Control-Allow-Origin"] == SHOP
    assert headers["Access-Control-Allow-Methods"] == "PUT"
    assert {"traceparent", "tracestate"} <= set(headers["Access-Control-Allow-Headers"].split(", "))
    assert client.put("/nope", 404, headers={"Origin": SHOP}).headers["Access-Control-Allow-Origin"] == SHOP
    client.request("OPTIONS", "/nope", 404, headers={"Origin": SHOP})


def test_options_alone_is_no_preflight(client: Any) -> None:
    assert granted(client.request("OPTIONS", "/stuff", 200, headers={"Origin": SHOP})) == {
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
    }


@pytest.mark.internal
def test_without_configuration_there_is_none_of_it() -> None:
    from engine.fast import flask_class
    from engine.http import cors

    app = flask_class()("alone", FSA_ALLOW_DEPRECATION=True, FSA_AUTH=["none"])
    app.config["CORS_ORIGINS"] = []
    cors.init_app(app)
    app.get("/stuff", authorize="OPEN")(lambda: {"stuff": True})
    response = app.test_client().get("/stuff", headers={"Origin": SHOP})
    assert response.status_code == 200
    assert granted(response) == set()
    assert "Vary" not in response.headers


@pytest.mark.internal
@pytest.mark.parametrize(
    "origin", ["*", "shop.example", "https://shop.example/", "https://*.example", "HTTPS://SHOP.EXAMPLE", ""]
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    from engine.http import cors

    assert cors.faults([SHOP, "http://[::1]:8080"]) == []
    assert len(cors.faults([SHOP, origin])) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy.example"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": SHOP}, False),
        ({"Origin": SHOP}, False),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    client: Any, calvin: Any, method: str, headers: dict[str, str], refused: bool
) -> None:
    path, sent = {
        "POST": ("/users", {"login": "moe", "pass": "secret", "admin": "true"}),
        "PUT": ("/stuff/1", {"stuff": "Lamp"}),
        "PATCH": ("/users/2", {"admin": "true"}),
        "DELETE": ("/stuff/1", None),
    }[method]
    response = client.request(method, path, headers=calvin | headers, **({"data": sent} if sent else {}))
    assert (response.status_code == 403) == refused
    assert not refused or response.json["code"] == "cross_site"
    client.get("/stuff", 200, headers=headers)


@pytest.mark.internal
def test_a_page_of_ones_own_needs_no_new_browser(client: Any) -> None:
    client.post("/stuff", 201, data={"stuff": "Clock"}, headers={"Origin": "http://localhost"})
