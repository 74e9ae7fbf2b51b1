"""What a request costs in the database: its round trips and statements, off the wire; docs/performance.md has the table."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, bearer
from inside import trace

pytestmark = pytest.mark.internal
OPEN = "_begin _context "
# method, path, who, parameters, and the statements of each round trip
COSTS: list[tuple[str, str, str, dict[str, str], list[str]]] = [
    ("GET", "/live", "nobody", {}, []),
    ("GET", "/ready", "nobody", {}, ["get_schema"]),
    ("GET", "/stuff/1", "nobody", {}, ["get_stuff_sid"]),
    ("GET", "/stuff", "nobody", {}, ["list_stuff_sid"]),
    ("GET", "/stuff", "nobody", {"filter": "C%"}, ["search_stuff"]),
    ("POST", "/stuff", "nobody", {"stuff": "Clock"}, [OPEN + "add_stuff", "_commit"]),
    ("PUT", "/stuff/1", "nobody", {"stuff": "Clock"}, [OPEN + "upd_stuff_sid", "_commit"]),
    ("DELETE", "/stuff/2", "nobody", {}, [OPEN + "del_stuff_sid", "_commit"]),
    ("GET", "/whoami", "token", {}, ["get_auth_session"]),
    ("GET", "/users", "token", {}, ["get_auth_session list_users"]),
    ("GET", "/owned/1", "token", {}, ["get_auth_session list_owned_uid"]),
    ("POST", "/owned/1", "token", {"object": "Kite"}, [OPEN + "get_auth_session_share", "add_owned_uid", "_commit"]),
]


@pytest.fixture
def trips(tmp_path: Path) -> Callable[[Callable[[], Any]], list[str]]:
    """Do something, and tell the statements of each round trip that it took."""

    from database import db

    def begin(pool: Any, file: Path) -> Callable[[], list[str]]:
        session = pool.take()
        end = trace(session, file)
        pool.give(session)
        return end

    def run(act: Callable[[], Any]) -> list[str]:
        ends = [begin(pool, tmp_path / str(number)) for number, pool in enumerate((db.fresh, db.writer))]
        act()
        return [trip for end in ends for trip in end()]

    return run


@pytest.fixture
def token(client: Any, calvin: dict[str, str]) -> dict[str, str]:
    """The headers of calvin with a token."""
    return bearer(client.get("/login", 200, headers=calvin).json)


@pytest.mark.parametrize(("method", "path", "who", "data", "cost"), COSTS)
def test_a_request_costs_these_round_trips(
    client: Any, sql: Any, fresh_data: str, trips: Any, token: dict[str, str],
    method: str, path: str, who: str, data: dict[str, str], cost: list[str],
) -> None:  # fmt: skip
    def act() -> None:
        client.request(method, path, data=data, headers=token if who == "token" else {})

    act()  # the first time, statements are prepared
    sql("CREATE TEMPORARY TABLE Kept AS TABLE Session")
    sql(fresh_data)
    sql("INSERT INTO Session TABLE Kept; DROP TABLE Kept")  # who called before still does
    assert trips(act) == cost


def test_a_key_and_a_password_cost_what_a_token_does(client: Any, trips: Any, calvin: dict[str, str]) -> None:
    asked = {"note": "reports", "scopes": "owned:read"}
    key = bearer(client.post("/keys", 201, json=asked, headers=calvin).json["key"])
    for headers, query in ((key, "get_auth_key"), (calvin, "get_auth")):
        client.get("/owned/1", 200, headers=headers)
        assert trips(partial(client.get, "/owned/1", 200, headers=headers)) == [f"{query} list_owned_uid"]


def test_the_costs_are_documented() -> None:
    page = (HERE / "docs" / "performance.md").read_text()
    for method, path, _, data, cost in COSTS:
        asked = f"{method} {path}" + "".join(f"?{name}={value}" for name, value in data.items() if method == "GET")
        steps = " · ".join(step.replace("_begin _context", "BEGIN").replace("_commit", "COMMIT") for step in cost)
        assert f"| {asked} | {len(cost)} | {steps or 'none'} |" in page
