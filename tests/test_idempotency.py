"""What a client may rely on when it repeats a POST, or writes at the same time as others."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from conftest import HERE

KEY = {"Idempotency-Key": "3f2c-1"}


def rows(sql: Any) -> int:
    return int(sql("SELECT count(*) FROM Stuff")[0][0])


def persist(send: Callable[[], Any]) -> Any:
    """Ask again, as a client does, while the server says that it is busy or that the same request still runs."""
    for _ in range(1000):
        response = send()
        if response.status_code != 503 and not (response.status_code == 409 and response.json["code"] == "still_running"):
            return response
        time.sleep(0.01)
    raise AssertionError("no answer")


def test_a_repeated_request_gets_its_first_answer_and_is_done_once(client: Any, sql: Any) -> None:
    first = client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    assert "Idempotency-Replayed" not in first.headers
    again = client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json == first.json
    for name in ("Location", "Content-Type", "Content-Length"):
        assert again.headers[name] == first.headers[name]
    assert rows(sql) == 3


def test_the_same_key_with_another_request_is_422(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    response = client.post("/stuff", 422, json={"stuff": "Rug"}, headers=KEY)
    assert response.json["code"] == "idempotency_key_reused"
    assert rows(sql) == 3


def test_the_way_parameters_come_does_not_make_another_request(client: Any, raw: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    client.post("/stuff", 201, data={"stuff": "Lamp"}, headers=KEY)
    raw("POST", "/stuff?stuff=Lamp", Idempotency_Key=KEY["Idempotency-Key"])
    assert rows(sql) == 3


@pytest.mark.internal
def test_the_fingerprint_of_a_request_cannot_be_made_without_the_token_secret(
    client: Any, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import app

    made = []
    for secret in ("one secret", "another secret"):
        monkeypatch.setitem(app.config, "FSA_TOKEN_SECRET", secret)
        client.post("/register", 201, json={"login": "moe", "pword": "secret"}, headers=KEY)
        made += sql("SELECT key, fingerprint FROM Answer")
        sql("DELETE FROM Answer")
        sql("DELETE FROM Utilisateur WHERE login = 'moe'")
    assert made[0][0] == made[1][0]
    assert made[0][1] != made[1][1]


def test_keys_of_two_routes_have_nothing_to_do_with_each_other(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    client.post("/stuff/batch", 201, json={"items": [{"stuff": "Rug"}]}, headers=KEY)
    assert rows(sql) == 4


def test_keys_of_two_users_have_nothing_to_do_with_each_other(client: Any, hobbes: Any, susie: Any, sql: Any) -> None:
    for uid, user in ((2, hobbes), (3, susie)):
        answer = client.post(f"/owned/{uid}", 201, json={"object": "Tuna"}, headers=user | KEY)
        assert "Idempotency-Replayed" not in answer.headers
    assert client.post("/owned/2", 201, json={"object": "Tuna"}, headers=hobbes | KEY).headers["Idempotency-Replayed"] == "true"
    client.post("/owned/2", 403, json={"object": "Tuna"}, headers=susie | KEY)
    assert sql("SELECT count(*) FROM Owned WHERE object = 'Tuna'") == [(2,)]


def test_a_token_is_never_stored(client: Any, sql: Any) -> None:
    for _ in range(2):
        answer = client.post("/login", 201, json={"login": "calvin", "pword": "hobbes"}, headers=KEY)
        assert "Idempotency-Replayed" not in answer.headers
    assert sql("SELECT count(*) FROM Answer") == [(0,)]


def test_without_a_key_nothing_is_stored(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    client.put("/stuff/1", 204, json={"stuff": "Stool"}, headers=KEY)
    assert sql("SELECT count(*) FROM Answer") == [(0,)]


def test_a_refusal_is_not_stored(client: Any, sql: Any) -> None:
    client.post("/stuff", 409, json={"stuff": "Desk"}, headers=KEY)
    client.post("/stuff", 400, json={}, headers=KEY)
    assert sql("SELECT count(*) FROM Answer") == [(0,)]
    sql("DELETE FROM Stuff WHERE stuff = 'Desk'")
    assert "Idempotency-Replayed" not in client.post("/stuff", 201, json={"stuff": "Desk"}, headers=KEY).headers


@pytest.mark.parametrize("key", ["", "x" * 65, "é", "a\tb"])
def test_a_key_has_1_to_64_printable_characters(client: Any, key: str) -> None:
    headers = {"Idempotency-Key": key.encode().decode("latin1")}
    assert client.post("/stuff", 400, json={"stuff": "x"}, headers=headers).json["code"] == "invalid_idempotency_key"
    client.post("/stuff", 201, json={"stuff": "x"}, headers={"Idempotency-Key": "~ !" * 21 + "~"})


def test_an_answer_is_kept_for_24_hours(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    sql("UPDATE Answer SET made = now() - INTERVAL '23 hours 59 minutes'")
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    sql("UPDATE Answer SET made = now() - INTERVAL '24 hours 1 minute'")
    client.post("/stuff", 201, json={"stuff": "Rug"}, headers=KEY)
    assert sql("SELECT count(*) FROM Answer WHERE made > now() - INTERVAL '1 minute'") == [(1,)]


def test_old_answers_are_forgotten_little_by_little(client: Any, sql: Any) -> None:
    sql("INSERT INTO Answer(key, fingerprint, made) SELECT i, '', now() - INTERVAL '2 days' FROM generate_series(1, 150) AS i")
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    assert sql("SELECT count(*) FROM Answer") == [(51,)]
    client.post("/stuff", 201, json={"stuff": "Rug"}, headers={"Idempotency-Key": "another"})
    assert sql("SELECT count(*) FROM Answer") == [(2,)]


def test_the_table_tells_neither_key_nor_request(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    [(row,)] = sql("SELECT Answer::TEXT FROM Answer")
    assert KEY["Idempotency-Key"] not in row
    assert "Lamp" not in row


def test_a_request_that_still_runs_is_409(client: Any, sql: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    sql("BEGIN")
    try:
        sql("SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM Answer")
        assert client.post("/stuff", 409, json={"stuff": "Lamp"}, headers=KEY).json["code"] == "still_running"
    finally:
        sql("ROLLBACK")
    client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)


@pytest.mark.internal
def test_an_answer_that_cannot_be_stored_undoes_the_write(client: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.db import reference
    from engine.problem import Problem

    def fail(**_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(reference.db, "set_answer", fail)
    client.post("/stuff", 503, json={"stuff": "Lamp"}, headers=KEY)
    assert rows(sql) == 2


@pytest.mark.internal
def test_the_answer_of_a_request_that_runs_again_is_stored_once(client: Any, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.problem import Problem

    add, store, ran, stored = db.add_stuff, db.set_answer, [], []

    def undone_once(**named: Any) -> Any:
        sid = add(**named)
        ran.append(sid)
        if len(ran) == 1:
            raise Problem(503, retry=True)
        return sid

    monkeypatch.setattr(db, "add_stuff", undone_once)
    monkeypatch.setattr(db, "set_answer", lambda **named: stored.append(store(**named)))
    first = client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    assert (len(ran), stored) == (2, [1])
    again = client.post("/stuff", 201, json={"stuff": "Lamp"}, headers=KEY)
    assert (len(ran), stored, again.json) == (2, [1], first.json)
    assert rows(sql) == 3


def test_50_repeats_at_once_make_one_row_and_50_equal_answers(raw: Any, sql: Any) -> None:
    def repeat(_: int) -> Any:
        json = {"Content_Type": "application/json", "Idempotency_Key": "fifty"}
        return persist(lambda: raw("POST", "/stuff", b'{"stuff": "Lamp"}', **json))

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(repeat, range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["sid"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert rows(sql) == 3


def test_50_clients_that_increment_with_if_match_lose_nothing(raw: Any, sql: Any) -> None:
    sql("UPDATE Stuff SET stuff = '0' WHERE sid = 1")

    def increment(_: int) -> None:
        status = 412
        while status == 412:
            seen = persist(lambda: raw("GET", "/stuff/1"))
            more = b'{"stuff": "%d"}' % (int(seen.json["stuff"]) + 1)
            send = {"Content_Type": "application/json", "If_Match": seen.headers["ETag"]}
            status = persist(lambda: raw("PUT", "/stuff/1", more, **send)).status_code  # noqa: B023 called at once
        assert status == 204

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(increment, range(50)))
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [("50",)]


# a server that dies once it has committed, before it answers
SERVER = """
import os, signal, sys
from werkzeug.serving import make_server
from app import app
if sys.argv[2] == "die":
    app.last.append(lambda response: os.kill(os.getpid(), signal.SIGKILL))
make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""


@pytest.mark.internal
def test_a_server_killed_between_commit_and_answer_makes_no_second_row(sql: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def ask(how: str) -> tuple[requests.Response | None, int]:
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(port), how], cwd=HERE, stderr=subprocess.DEVNULL)
        try:
            while server.poll() is None:
                with socket.socket() as door:
                    if not door.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.05)
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/stuff", json={"stuff": "Lamp"}, headers=KEY, timeout=10)
            except requests.ConnectionError:
                answer = None
            if how == "live":
                server.terminate()
            return answer, server.wait(10)
        finally:
            server.kill()

    assert ask("die") == (None, -signal.SIGKILL)
    assert rows(sql) == 3
    answer, _ = ask("live")
    assert answer is not None
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (201, "true")
    assert answer.json() == {"sid": 3}
    assert rows(sql) == 3


@pytest.mark.internal
def test_a_refusal_is_not_kept(sql: Any) -> None:
    from app import app
    from engine.http.idempotency import keep
    from engine.http.response import Response

    with app.test_request_context("/stuff", method="POST"):
        keep("nobody", Response("no", 404))
    assert sql("SELECT count(*) FROM Answer") == [(0,)]
