"""Keys of programs: made, listed and removed; what each may do, and what none may."""

from typing import Any

import pytest
from conftest import basic, bearer
from test_rights import ROWS, SENT, concrete


def made(client: Any, headers: dict[str, str], *scopes: str, **more: Any) -> dict[str, str]:
    """The headers of a new key."""
    asked = {"note": "reports", "scopes": list(scopes), **more}
    return bearer(client.post("/keys", 201, json=asked, headers=headers).json["key"])


def test_a_key_is_shown_once_and_kept_as_a_digest(client: Any, hobbes: Any, sql: Any) -> None:
    response = client.post("/keys", 201, json={"note": "reports", "scopes": ["owned:read"], "days": 30}, headers=hobbes)
    assert response.json.keys() == {"kid", "key"}
    key, kid = response.json["key"], response.json["kid"]
    assert key.startswith("stuff_")
    assert len(key) == 6 + 43
    assert response.headers["Location"].endswith(f"/keys/{kid}")
    (row,) = client.get("/keys", 200, headers=hobbes).json
    assert row.keys() == {"kid", "note", "scopes", "made", "until", "used"}
    assert (row["kid"], row["note"], row["scopes"], row["used"]) == (kid, "reports", ["owned:read"], None)
    assert key not in str(sql("SELECT k FROM Api_Key AS k")) + str(sql("SELECT a FROM Audit AS a"))
    assert sql("SELECT until - made FROM Api_Key")[0][0].days == 30
    assert sql("SELECT event FROM Audit WHERE event LIKE 'KEY%'") == [("KEY_MADE",)]


def test_a_key_lives_ninety_days_unless_it_says_otherwise(client: Any, hobbes: Any, sql: Any) -> None:
    made(client, hobbes, "*")
    made(client, hobbes, "*", days=30.0)
    assert [row[0].days for row in sql("SELECT until - made FROM Api_Key ORDER BY kid")] == [90, 30]


@pytest.mark.parametrize("sent", [
    {"scopes": ["owned:read"]}, {"note": "x"}, {"note": "", "scopes": ["*"]}, {"note": "x", "scopes": []},
    {"note": "x", "scopes": ["owned"]}, {"note": "x", "scopes": ["owned:all"]}, {"note": "x", "scopes": ["nothing:read"]},
    {"note": "x", "scopes": [1]}, {"note": "x", "scopes": {"owned": "read"}}, {"note": "x", "scopes": "*", "days": 0},
    {"note": "x", "scopes": "*", "days": 1.5}, {"note": "x", "scopes": "*", "days": 366}, {"note": "x", "scopes": ["*"] * 51},
])  # fmt: skip
def test_what_is_no_key_is_refused(client: Any, hobbes: Any, sent: Any) -> None:
    assert client.post("/keys", 400, json=sent, headers=hobbes).json["errors"]
    assert client.get("/keys", 200, headers=hobbes).json == []


def test_a_key_does_what_its_scopes_say(client: Any, hobbes: Any) -> None:
    reads, writes = made(client, hobbes, "owned:read"), made(client, hobbes, "owned:write")
    for _ in range(3):
        client.get("/owned/2", 200, headers=reads)
        assert client.get("/owned/2", 403, headers=writes).json["error"] == 'scope "owned:read" is missing'
        assert client.post("/owned/2", 403, json={"object": "Kite"}, headers=reads).json["code"] == "scope_missing"
    client.post("/owned/2", 201, json={"object": "Kite"}, headers=writes)
    client.get("/whoami", 403, headers=reads)
    assert client.get("/version", 200, headers=reads).json["user"] is None
    assert client.get("/version", 200, headers=made(client, hobbes, "version:read")).json["user"] == "hobbes"


def test_a_key_may_do_no_more_than_its_user(client: Any, hobbes: Any, calvin: Any) -> None:
    key = made(client, hobbes, "*")
    client.get("/owned/3", 403, headers=key)
    client.get("/users", 403, headers=key)
    client.patch("/users/2", 204, json={"admin": True}, headers=calvin)
    client.get("/users", 200, headers=key)  # it is no token: another role does not end it
    client.patch("/users/2", 204, json={"admin": False}, headers=calvin)
    client.get("/users", 403, headers=key)


def test_a_key_does_nothing_to_its_own_account(client: Any, calvin: Any, sql: Any) -> None:
    key = made(client, calvin, "*")
    before = sql("SELECT u FROM Utilisateur AS u ORDER BY id")
    for method, path, sent in (
        ("GET", "/keys", {}), ("POST", "/keys", {"note": "x", "scopes": "*"}), ("DELETE", "/keys/1", {}),
        ("GET", "/sessions", {}), ("DELETE", "/sessions/1", {}), ("DELETE", "/login", {}),
        ("PATCH", "/users/1", {"pass": "another one"}), ("DELETE", "/users/1", {}),
        ("PUT", "/users/1/groups/EDITOR", {}), ("DELETE", "/users/1/groups/ADMIN", {}),
    ):  # fmt: skip
        assert client.request(method, path, 403, headers=key, json=sent).json["code"] == "key_not_allowed", path
    assert sql("SELECT u FROM Utilisateur AS u ORDER BY id") == before
    client.get("/users/1", 200, headers=key)
    client.put("/users/2/groups/EDITOR", 204, headers=key)
    client.post("/password", 401, json={"old": "hobbes", "new": "another one"}, headers=key)


def test_a_key_that_is_removed_or_expired_is_dead_at_once(client: Any, hobbes: Any, susie: Any, sql: Any) -> None:
    key, other = made(client, hobbes, "*"), made(client, hobbes, "*")
    for _ in range(8):
        client.get("/owned/2", 200, headers=key)
        client.get("/owned/2", 200, headers=other)
    client.delete("/keys/1", 404, headers=susie)
    client.delete("/keys/1", 204, headers=hobbes)
    client.delete("/keys/1", 404, headers=hobbes)
    sql("UPDATE Api_Key SET until = now() - INTERVAL '1 second' WHERE kid = 2")
    for _ in range(8):
        assert client.get("/owned/2", 401, headers=key).json["error"] == "invalid key"
        client.post("/owned/2", 401, json={"object": "Kite"}, headers=key)
        assert client.get("/owned/2", 401, headers=other).json["error"] == "expired key"


def test_keys_outlive_a_log_out_and_not_their_user(client: Any, hobbes: Any, sql: Any) -> None:
    key = made(client, hobbes, "*")
    client.delete("/login", 204, headers=hobbes)
    client.get("/owned/2", 200, headers=key)
    sql("DELETE FROM Owned WHERE owner = 2; DELETE FROM Utilisateur WHERE id = 2")
    client.get("/owned/2", 401, headers=key)
    assert sql("SELECT count(*) FROM Api_Key") == [(0,)]


@pytest.mark.parametrize("row", ROWS, ids=[" ".join(row[:2]) for row in ROWS])
def test_no_route_takes_a_key_without_its_scope(client: Any, hobbes: Any, row: list[str]) -> None:
    method, path = row[:2]
    sent = {"json": dict(SENT[f"{method} {path}"])} if f"{method} {path}" in SENT else {}
    nobody = int(row[2])
    key = made(client, hobbes, "cmp:write")  # which no route wants
    found = client.request(method, concrete(path), headers=key, **sent).status_code
    by_password = (method, path) in (("GET", "/login"), ("POST", "/login"), ("POST", "/password")) or path.startswith("/totp")
    assert found == (nobody if nobody != 401 or by_password or path == "/refresh" else 403)


@pytest.mark.internal
def test_keys_used_are_written(client: Any, hobbes: Any, sql: Any) -> None:
    from app import app

    seen = app.extensions["auth"].seen
    seen.write()
    key = made(client, hobbes, "*")
    made(client, hobbes, "*")
    client.get("/owned/2", 200, headers=key)
    seen.write()
    assert sql("SELECT kid, used > now() - INTERVAL '1 minute' FROM Api_Key ORDER BY kid") == [(1, True), (2, None)]


def test_basic_and_tokens_need_no_scope(client: Any, hobbes: Any) -> None:
    client.get("/owned/2", 200, headers=hobbes)
    client.get("/owned/2", 200, headers=bearer(client.get("/login", 200, headers=basic("hobbes", "susie")).json))


def test_too_many_guesses_are_refused_on_open_routes_as_well(client: Any) -> None:
    for _ in range(5):
        assert client.get("/version", 200, headers=basic("hobbes", "guess")).json["user"] is None
    client.get("/version", 429, headers=basic("hobbes", "guess"))
