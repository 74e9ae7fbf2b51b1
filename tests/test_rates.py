"""Rates by route: counted by caller or address, told in headers, refused beyond."""

from pathlib import Path
from typing import Any

import pytest
from conftest import basic
from inside import answers, environment

# an application with routes that have rates
CODE = """
import json, sys
from app import app
from engine.http.wire import declare
from FlaskSimpleAuth import Response

@app.get("/mine", authorize="AUTH")
@declare(limit="2/hour")
def get_mine() -> str:
    return "mine"

@app.get("/ours", authorize="AUTH")
@declare(limit="2/hour", by="address")
def get_ours() -> None:
    return None

@app.get("/file", authorize="OPEN")
@declare(limit="1/day")
def get_file() -> Response:
    return Response(b"text", mimetype="text/plain")

client = app.test_client()
for path, headers in json.load(sys.stdin):
    answer = client.get(path, headers=headers)
    print(json.dumps({"status": answer.status_code, "left": answer.headers["RateLimit"].split(";")[1],
                      "policy": answer.headers["RateLimit-Policy"], "wait": "Retry-After" in answer.headers}))
"""


def test_a_rate_is_told_and_refuses_beyond(client: Any, sql: Any) -> None:
    answer = client.post("/refresh", 401, json={"refresh": "none"})
    assert sql("SELECT subject, number FROM Attempt") == [("r post_refresh 127.0.0.1", 1)]
    text = client.post("/login", 201, json={"login": "hobbes", "pword": "susie", "refresh": True}).json["refresh"]
    answer = client.post("/refresh", 201, json={"refresh": text})
    assert answer.headers["RateLimit-Policy"] == '"post_refresh";q=30;w=60'
    assert answer.headers["RateLimit"].startswith('"post_refresh";r=28;t=')
    sql("UPDATE Attempt SET number = 30 WHERE subject LIKE 'r %'")
    answer = client.post("/refresh", 429, json={"refresh": answer.json["refresh"]})
    assert answer.json["code"] == "too_many_attempts"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit"].startswith('"post_refresh";r=0;t=')
    sql("UPDATE Attempt SET until = now() - INTERVAL '1 second'")
    client.post("/refresh", 401, json={"refresh": "none"})


def test_what_is_malformed_is_not_counted(client: Any, sql: Any) -> None:
    client.post("/refresh", 400)
    assert sql("SELECT count(*) FROM Attempt") == [(0,)]


@pytest.mark.internal
def test_rates_count_callers_or_addresses(sql: Any, tmp_path: Path) -> None:
    hobbes, susie = basic("hobbes", "susie"), basic("susie", "derkins")
    asked = [("/mine", hobbes), ("/mine", hobbes), ("/mine", hobbes), ("/mine", susie)]
    asked += [("/ours", hobbes), ("/ours", susie), ("/ours", susie), ("/file", {}), ("/file", {})]
    said = answers(CODE, asked, environment(tmp_path))
    assert [one["status"] for one in said] == [200, 200, 429, 200, 204, 204, 429, 200, 429]
    assert [one["left"] for one in said] == ["r=1", "r=0", "r=0", "r=1", "r=1", "r=0", "r=0", "r=0", "r=0"]
    assert [one["wait"] for one in said] == [one["status"] == 429 for one in said]
    assert said[0]["policy"] == '"get_mine";q=2;w=3600'


@pytest.mark.internal
@pytest.mark.parametrize("rate", ["", "30", "0/minute", "30/week", "30/minute ", "-1/day"])
def test_what_is_no_rate_is_refused_at_start(rate: str) -> None:
    from engine.auth.rates import parse

    with pytest.raises(ValueError, match="no rate such as 30/minute"):
        parse(rate)
