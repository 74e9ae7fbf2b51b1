"""What costs a hash has a bounded place of its own, is counted by address, and is done once for equal passwords at once."""

import os
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from conftest import basic, bearer
from test_account import configured  # noqa: F401


@pytest.fixture
def passwords() -> Any:
    from app import app

    return app.extensions["auth"].passwords


@pytest.mark.internal
def test_a_place_takes_so_many_and_no_more() -> None:
    from engine.auth.hashing import NICE, Place
    from engine.problem import Problem

    place = Place(1)
    with place:
        with pytest.raises(Problem) as refused, place:
            raise AssertionError
        assert place.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == NICE
    with place:
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == 0
    assert (refused.value.status, refused.value.code) == (503, "hashing_busy")


@pytest.mark.internal
def test_a_full_place_refuses_at_once_and_lets_the_others_read(client: Any, passwords: Any, sql: Any) -> None:
    token = bearer(client.get("/login", 200, headers=basic("susie", "derkins")).json)
    with passwords.place, passwords.place:
        response = client.post("/register", 503, json={"login": "moe", "pword": "secret"})
        assert response.json["code"] == "hashing_busy"
        assert int(response.headers["Retry-After"]) >= 1
        client.get("/cmp/hash?apass=secret", 503, headers=token)
        client.get("/hello", 503, headers=basic("hobbes", "a guess"))
        client.get("/stuff", 200)
        client.get("/whoami", 200, headers=token)
    assert sql("SELECT count(*) FROM Attempt WHERE subject = 'l hobbes'") == [(0,)]
    client.post("/register", 201, json={"login": "moe", "pword": "secret"})


@pytest.mark.internal
def test_hashes_of_new_passwords_are_counted_by_address(client: Any, calvin: Any, hobbes: Any, configured: Any) -> None:  # noqa: F811
    configured(LOGIN_LIMITS={"hash": 2})
    client.post("/register", 201, json={"login": "moe", "pword": "secret"})
    client.get("/cmp/hash?apass=secret", 200, headers=hobbes)
    response = client.post("/register", 429, json={"login": "rosalyn", "pword": "secret"})
    assert response.headers["RateLimit-Policy"] == '"hash";q=2;w=600'
    assert 1 <= int(response.headers["Retry-After"]) <= 600
    client.get("/cmp/hash?apass=secret", 429, headers=hobbes)
    client.post("/users", 201, json={"login": "rosalyn", "pass": "secret"}, headers=calvin)


@pytest.mark.internal
def test_a_local_instance_lets_a_systematic_test_through(client: Any, configured: Any) -> None:  # noqa: F811
    configured(LOGIN_LIMITS={})
    for _ in range(30):
        client.get("/hello", 401, headers=basic("hobbes", "guess"))
    configured(LOGIN_LIMITS={}, LOCAL=False)
    client.get("/hello", 429, headers=basic("hobbes", "guess"))


def test_the_right_password_from_many_at_once_is_never_refused(client: Any, sql: Any) -> None:
    from FlaskTester import _ft_authenticator, _ft_client

    client.post("/register", 201, json={"login": "moe", "pword": "secret"})
    codes: list[int] = []

    def ask() -> None:
        codes.append(_ft_client(_ft_authenticator()).get("/hello", headers=basic("moe", "secret")).status_code)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 16
    assert sql("SELECT max(number) FROM Attempt WHERE subject LIKE '%moe'") == [(0,)]


@pytest.mark.internal
@pytest.mark.parametrize(("outcome", "status", "counted"), [("right", 200, []), ("wrong", 401, [(1,)]), ("full", 503, [(0,)])])
def test_who_waits_for_an_equal_password_gets_its_outcome(
    client: Any, passwords: Any, sql: Any, outcome: str, status: int, counted: list[Any]
) -> None:
    from FlaskSimpleAuth import ErrorResponse

    from engine.problem import Problem

    client.get("/hello", 200, headers=basic("hobbes", "susie"))
    known = passwords._verified.pop(passwords._digest("hobbes\0susie"))
    sql("DELETE FROM Attempt")
    first: Future[Any] = Future()
    passwords._checking[passwords._digest("hobbes\0susie"), "127.0.0.1"] = first
    if outcome == "right":
        first.set_result(known)
    else:
        first.set_exception(ErrorResponse("invalid credentials", 401) if outcome == "wrong" else Problem(503))
    try:
        client.get("/hello", status, headers=basic("hobbes", "susie"))
    finally:
        passwords._checking.clear()
    assert sql("SELECT number FROM Attempt WHERE subject = 'l hobbes'") == counted


@pytest.mark.internal
def test_a_place_that_is_full_for_the_first_is_told_to_it(client: Any, passwords: Any) -> None:
    with passwords.place, passwords.place:
        client.get("/hello", 503, headers=basic("hobbes", "susie"))
    assert passwords._checking == {}


def test_basic_authentication_may_come_in_latin_1(client: Any) -> None:
    import base64

    client.post("/register", 201, json={"login": "zoé", "pword": "crème"})
    for charset in ("latin1", "utf-8"):
        header = "Basic " + base64.b64encode("zoé:crème".encode(charset)).decode()
        assert client.get("/whoami", 200, headers={"Authorization": header}).json == "zoé"
