"""A right that is taken while a write rests on it: the write is refused, whatever it had read before."""

import threading
import time
from typing import Any

import psycopg
import pytest
from conftest import basic, bearer

# statement that takes the right from hobbes, user 2; whom it leaves without: a token, a password, an administrator
TAKEN = {
    "demoted": ("UPDATE Utilisateur SET isAdmin = FALSE WHERE id = 2", "admin"),
    "another password": ("UPDATE Utilisateur SET pword = '$another' WHERE id = 2", "token password"),
    "logged out": ("UPDATE Utilisateur SET epoch = epoch + 1 WHERE id = 2", "token"),
    "removed": ("DELETE FROM Utilisateur WHERE id = 2", "token password"),
}
# method, path, parameters, and what the write rests on
WRITES: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/users", {"login": "moe", "pass": "secret"}, "admin"),
    ("POST", "/users-mgt", {"u": {"login": "moe", "password": "secret"}}, "admin"),
    ("PATCH", "/users/2", {"admin": True}, "admin"),
    ("PATCH", "/users/3", {"admin": True}, "admin"),
    ("DELETE", "/users/3", {}, "admin"),
    ("POST", "/password", {"old": "susie", "new": "tuna sandwich"}, "password"),
    ("DELETE", "/login", {}, "self"),
    ("POST", "/owned/2", {"object": "Kite"}, "self"),
    ("PUT", "/owned/2/2", {"object": "Kite"}, "self"),
    ("PATCH", "/owned/2/2", {"object": "Kite"}, "self"),
    ("DELETE", "/owned/2/2", {}, "self"),
]
RACES = [
    (taken, scheme, write)
    for taken, (_, without) in TAKEN.items()
    for scheme in ("token", "password")
    for write in WRITES
    if not (write[3] == "password" and scheme == "token")
    if scheme in without or ("admin" in without and write[3] == "admin")
]
STATE = "SELECT (SELECT json_agg(u ORDER BY id) FROM Utilisateur u)::TEXT, (SELECT json_agg(o ORDER BY oid) FROM Owned o)::TEXT"


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
@pytest.mark.parametrize(
    ("taken", "scheme", "write"), RACES, ids=[f"{taken}-{scheme}-{write[0]} {write[1]}" for taken, scheme, write in RACES]
)
def test_a_right_that_is_taken_meanwhile_is_gone(
    client: Any, sql: Any, taken: str, scheme: str, write: tuple[str, str, dict[str, Any], str], known: bool
) -> None:
    method, path, sent, _ = write
    if taken == "removed":  # who owns something stays
        sql("UPDATE Owned SET owner = 3, object = 'Lent' WHERE owner = 2")
    sql("DELETE FROM Owned WHERE owner = 3 AND object = 'Box'")
    sql("UPDATE Utilisateur SET isAdmin = TRUE WHERE id = 2")
    headers = basic("hobbes", "susie")
    if scheme == "token":
        headers = bearer(client.get("/login", 200, headers=headers).json)
    for _ in range(12 if known else 0):  # every worker
        client.get("/whoami", 200, headers=headers)
    codes: list[int] = []

    def act() -> None:
        from FlaskTester import _ft_authenticator, _ft_client

        mine = _ft_client(_ft_authenticator())
        codes.append(mine.request(method, path, headers=headers, **({"json": sent} if sent else {})).status_code)

    thread = threading.Thread(target=act)
    with psycopg.connect(application_name="tests") as other:
        other.execute(TAKEN[taken][0])
        thread.start()
        until = time.monotonic() + 2
        while not codes and time.monotonic() < until and not sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
            time.sleep(0.005)
        other.commit()
    thread.join()
    users, owned = sql(STATE)[0]
    assert codes == [403 if taken == "demoted" and scheme == "password" else 401]
    assert "moe" not in users
    assert "Kite" not in owned


def test_two_administrators_who_demote_each_other_leave_one(client: Any, sql: Any, calvin: Any, hobbes: Any) -> None:
    from FlaskTester import _ft_authenticator, _ft_client

    sql("UPDATE Utilisateur SET isAdmin = TRUE WHERE id = 2")
    codes: list[int] = []

    def demote(whom: int, headers: dict[str, str]) -> None:
        mine = _ft_client(_ft_authenticator())
        codes.append(mine.patch(f"/users/{whom}", headers=headers, json={"admin": False}).status_code)

    with psycopg.connect(application_name="tests") as other:  # one waits for his own row, the other for his turn
        other.execute("SELECT FROM Utilisateur WHERE isAdmin FOR UPDATE")
        threads = [threading.Thread(target=demote, args=each) for each in ((1, hobbes), (2, calvin))]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 1.5
        while time.monotonic() < until and sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(2,)]:
            time.sleep(0.005)
        other.commit()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [204, 403]
    assert sql("SELECT count(*) FROM Utilisateur WHERE isAdmin") == [(1,)]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/cmp/hash?apass=abc", {}),
        ("POST", "/users", {"login": "moe", "pass": "abc"}),
        ("PATCH", "/users/2", {"pass": "abc"}),
    ],
)
def test_who_is_nobody_any_more_is_told_that_first(
    client: Any, sql: Any, calvin: Any, method: str, path: str, sent: dict[str, str]
) -> None:
    token = bearer(client.get("/login", 200, headers=calvin).json)
    body = {"json": sent} if sent else {}
    for _ in range(12):  # every worker knows it
        client.request(method, path, 400, headers=token, **body)
    sql("UPDATE Utilisateur SET epoch = epoch + 1")
    for _ in range(4):
        client.request(method, path, 401, headers=token, **body)
