"""Log-ins as sessions: listed, ended, renewed once by each text."""

import threading
from typing import Any

import pytest
from conftest import bearer, link


def log_in(client: Any, login: str = "hobbes", password: str = "susie") -> Any:
    """A session that can be renewed."""
    return client.post("/login", 201, json={"login": login, "pword": password, "refresh": True}).json


def test_two_log_ins_of_one_second_are_two_sessions(client: Any, hobbes: Any) -> None:
    first, second = (client.get("/login", 200, headers=hobbes).json for _ in range(2))
    assert first != second
    rows = client.get("/sessions", 200, headers=bearer(second)).json
    assert [row["current"] for row in rows] == [True, False]
    assert rows[0]["sid"] > rows[1]["sid"]
    assert rows[0].keys() == {"sid", "made", "seen", "until", "address", "agent", "current"}
    assert rows[0]["address"] == "127.0.0.1"
    assert [row["current"] for row in client.get("/sessions", 200, headers=hobbes).json] == [False, False]


def test_one_lists_and_ends_only_one_s_own(client: Any, hobbes: Any, susie: Any) -> None:
    token = client.get("/login", 200, headers=hobbes).json
    sid = client.get("/sessions", 200, headers=bearer(token)).json[0]["sid"]
    assert client.get("/sessions", 200, headers=susie).json == []
    client.delete(f"/sessions/{sid}", 404, headers=susie)
    client.delete("/sessions/9007199254740991", 404, headers=hobbes)
    client.get("/whoami", 200, headers=bearer(token))


def test_a_session_that_is_ended_is_dead_at_once_and_others_live(client: Any, hobbes: Any) -> None:
    one, other = (client.get("/login", 200, headers=hobbes).json for _ in range(2))
    for _ in range(8):  # on whatever process answers
        client.get("/whoami", 200, headers=bearer(one))
    sid = client.get("/sessions", 200, headers=bearer(one)).json[1]["sid"]
    mine = [row["sid"] for row in client.get("/sessions", 200, headers=bearer(one)).json if row["current"]]
    assert mine == [sid]
    client.delete(f"/sessions/{sid}", 204, headers=bearer(other))
    for _ in range(8):
        assert client.get("/whoami", 401, headers=bearer(one)).json["error"] == "invalid token"
        client.post("/owned/2", 401, json={"object": "Kite"}, headers=bearer(one))
        client.get("/whoami", 200, headers=bearer(other))
    client.delete(f"/sessions/{sid}", 404, headers=bearer(other))


def test_a_session_can_end_itself(client: Any, hobbes: Any) -> None:
    token = bearer(client.get("/login", 200, headers=hobbes).json)
    (row,) = client.get("/sessions", 200, headers=token).json
    client.delete(f"/sessions/{row['sid']}", 204, headers=token)
    client.get("/sessions", 401, headers=token)


def test_a_log_out_ends_all_and_lists_none(client: Any, hobbes: Any) -> None:
    session = log_in(client)
    client.delete("/login", 204, headers=hobbes)
    assert client.get("/sessions", 200, headers=hobbes).json == []
    client.get("/whoami", 401, headers=bearer(session["token"]))
    client.post("/refresh", 401, json={"refresh": session["refresh"]})


def test_sessions_come_in_pages(client: Any, hobbes: Any) -> None:
    for _ in range(3):
        client.get("/login", 200, headers=hobbes)
    first = client.get("/sessions", 200, data={"limit": 2}, headers=hobbes)
    second = client.get(link(first), 200, headers=hobbes)
    assert (len(first.json), len(second.json), link(second)) == (2, 1, None)
    assert client.get("/sessions", 400, data={"after": "x"}, headers=hobbes).json["errors"][0]["field"] == "after"


def test_a_session_is_renewed_once_by_each_text(client: Any, hobbes: Any) -> None:
    old = log_in(client)
    assert old.keys() == {"token", "expires", "refresh"}
    new = client.post("/refresh", 201, json={"refresh": old["refresh"]}).json
    client.get("/whoami", 401, headers=bearer(old["token"]))
    assert client.get("/whoami", 200, headers=bearer(new["token"])).json == "hobbes"
    assert len(client.get("/sessions", 200, headers=hobbes).json) == 1
    newer = client.post("/refresh", 201, json={"refresh": new["refresh"]}).json
    client.get("/whoami", 200, headers=bearer(newer["token"]))


def test_a_refresh_text_that_comes_again_ends_its_session(client: Any, hobbes: Any, sql: Any) -> None:
    old, other = log_in(client), log_in(client)
    new = client.post("/refresh", 201, json={"refresh": old["refresh"]}).json
    assert client.post("/refresh", 401, json={"refresh": old["refresh"]}).json["code"] == "invalid_refresh"
    client.get("/whoami", 401, headers=bearer(new["token"]))
    client.post("/refresh", 401, json={"refresh": new["refresh"]})
    client.get("/whoami", 200, headers=bearer(other["token"]))
    assert sql("SELECT login, address FROM Audit WHERE event = 'REFRESH_REUSED'") == [("hobbes", "127.0.0.1")]


def test_of_two_who_renew_at_once_none_goes_on(client: Any, sql: Any) -> None:
    from FlaskTester import _ft_authenticator, _ft_client

    text, codes = log_in(client)["refresh"], list[int]()

    def renew() -> None:
        codes.append(_ft_client(_ft_authenticator()).post("/refresh", json={"refresh": text}).status_code)

    threads = [threading.Thread(target=renew) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 401, 401, 401]
    assert sql("SELECT count(*) FROM Session") == [(0,)]
    assert sql("SELECT count(*) FROM Audit WHERE event = 'REFRESH_REUSED'") == [(1,)]


@pytest.mark.parametrize("change", ["password", "until", "user"])
def test_what_ends_a_user_s_tokens_ends_refresh_texts(client: Any, sql: Any, change: str) -> None:
    text = log_in(client)["refresh"]
    sql({
        "password": "UPDATE Utilisateur SET isAdmin = TRUE WHERE id = 2",
        "until": "UPDATE Refresh SET until = now() - INTERVAL '1 second'",
        "user": "DELETE FROM Owned WHERE owner = 2; DELETE FROM Utilisateur WHERE id = 2",
    }[change])  # fmt: skip
    client.post("/refresh", 401, json={"refresh": text})


def test_a_log_in_without_refresh_is_a_token_alone(client: Any) -> None:
    for refresh in ({}, {"refresh": False}):
        assert isinstance(client.post("/login", 201, json={"login": "hobbes", "pword": "susie", **refresh}).json, str)
    client.post("/login", 400, json={"login": "hobbes", "pword": "susie", "refresh": "perhaps"})
    client.post("/login", 401, json={"login": "hobbes", "pword": "guess", "refresh": True})


def test_neither_tokens_nor_refresh_texts_are_kept(client: Any, sql: Any) -> None:
    session = log_in(client)
    kept = str(sql("SELECT s, r FROM Session AS s, Refresh AS r")) + str(sql("SELECT a FROM Audit AS a"))
    assert session["refresh"] not in kept
    assert session["token"] not in kept


def test_a_log_in_is_in_the_trail_once(client: Any, sql: Any) -> None:
    log_in(client)
    assert sql("SELECT login, address, request IS NOT NULL FROM Audit WHERE event = 'LOGIN'") == [("hobbes", "127.0.0.1", True)]


@pytest.mark.internal
def test_sessions_seen_are_written_and_old_ones_forgotten(client: Any, sql: Any) -> None:
    from app import app

    seen = app.extensions["auth"].seen
    seen.write()  # of other tests
    old, new = log_in(client)["token"], log_in(client)["token"]
    sql("UPDATE Session SET made = now() - INTERVAL '2 hours', seen = now() - INTERVAL '1 hour'")
    client.get("/whoami", 200, headers=bearer(new))
    seen.write()
    assert sql("SELECT now() - seen < INTERVAL '1 minute' FROM Session ORDER BY sid") == [(False,), (True,)]
    sql("UPDATE Session SET until = now() - INTERVAL '2 days'; UPDATE Refresh SET until = now() - INTERVAL '2 days'")
    seen.write()
    assert sql("SELECT count(*) FROM Session") == [(0,)]
    assert sql("SELECT count(*) FROM Refresh") == [(0,)]
    client.get("/whoami", 401, headers=bearer(old))


@pytest.mark.internal
def test_sessions_seen_while_the_database_is_away_are_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.auth.session import Seen
    from engine.problem import Problem

    asked, seen = list[str](), Seen(0.001)

    def away(sids: str) -> None:
        asked.append(sids)
        if len(asked) == 2:
            seen.period = 0.0
        raise Problem(503)

    monkeypatch.setitem(vars(db), "set_sessions_seen", away)
    seen.note({"sid": 7})
    seen.note({"sid": 7})
    assert seen._thread is not None
    seen._thread.join(5)
    assert asked == ["{7}", "{7}"]
    seen._start()  # another thread was first


@pytest.mark.internal
def test_a_caller_whose_session_ends_meanwhile_is_judged_anew(client: Any, sql: Any, hobbes: Any) -> None:
    token = bearer(client.get("/login", 200, headers=hobbes).json)
    waiting = threading.Timer(0.3, lambda: sql("DELETE FROM Session"))
    waiting.start()
    cursor = link(client.get("/changes", 200, headers=token))
    client.get(cursor + "&wait=5", 401, headers=token)
    waiting.join()
