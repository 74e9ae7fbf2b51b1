"""Second factors: begun, confirmed, wanted beside a password, good once, ended."""

import base64
import threading
import time
from typing import Any

import pytest
from conftest import basic, bearer

from engine.auth import totp


def digits(secret: str, apart: int = 0) -> str:
    """Those of a secret for now, or some steps away."""
    return totp.code(base64.b32decode(secret), int(time.time()) // 30 + apart)


def force(client: Any, sql: Any) -> tuple[str, list[str]]:
    """Put a second factor of hobbes in force, as if long ago: its secret and its recovery texts."""
    headers = basic("hobbes", "susie")
    secret = client.post("/totp", 201, headers=headers).json["secret"]
    texts = client.post("/totp/confirm", 201, json={"otp": digits(secret)}, headers=headers).json["recovery"]
    sql("UPDATE Totp SET step = step - 10")
    return secret, texts


def test_the_digits_are_those_of_the_standard() -> None:
    for at, eight in (
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
        (2000000000, "69279037"), (20000000000, "65353130"),
    ):  # fmt: skip
        assert totp.code(b"12345678901234567890", at // 30) == eight[2:]  # RFC 6238, appendix B


def test_a_secret_is_sealed_for_its_user_and_opened_by_no_other_key() -> None:
    secret, sealed = b"12345678901234567890", totp.Sealed(b"a key")
    kept = sealed.seal(2, secret)
    assert sealed.open(2, kept) == secret
    assert sealed.seal(2, secret) != kept
    assert secret.hex() not in kept
    other = "0" if kept[-1] != "0" else "1"
    for opener, uid, text in ((sealed, 3, kept), (sealed, 2, kept[:-1] + other), (totp.Sealed(b"x"), 2, kept)):
        with pytest.raises(ValueError, match="cannot be opened"):
            opener.open(uid, text)


def test_a_secret_is_not_in_force_before_it_is_confirmed(client: Any, hobbes: Any, sql: Any) -> None:
    first = client.post("/totp", 201, headers=hobbes).json
    second = client.post("/totp", 201, headers=hobbes).json
    assert first["secret"] != second["secret"]
    assert second["uri"] == f"otpauth://totp/stuff:hobbes?secret={second['secret']}&issuer=stuff"
    client.get("/whoami", 200, headers=hobbes)
    answer = client.post("/totp/confirm", 400, json={"otp": digits(first["secret"])}, headers=hobbes)
    assert answer.json["code"] == "wrong_otp"
    client.get("/whoami", 200, headers=hobbes)
    texts = client.post("/totp/confirm", 201, json={"otp": digits(second["secret"])}, headers=hobbes).json["recovery"]
    assert len(set(texts)) == 10
    kept = str(sql("SELECT t FROM Totp AS t")) + str(sql("SELECT r FROM Recovery AS r"))
    assert not any(text in kept for text in (*texts, second["secret"], base64.b32decode(second["secret"]).hex()))


def test_with_one_in_force_a_password_alone_is_not_enough(client: Any, sql: Any, hobbes: Any, susie: Any) -> None:
    token = bearer(client.get("/login", 200, headers=hobbes).json)
    secret, _ = force(client, sql)
    for method, path in (("GET", "/whoami"), ("GET", "/login"), ("POST", "/password"), ("POST", "/totp"), ("DELETE", "/login")):
        sent = {"old": "susie", "new": "another one"} if path == "/password" else {}
        answer = client.request(method, path, 401, json=sent, headers=hobbes)
        assert answer.json["code"] == "otp_required", path
        assert "Basic" in answer.headers["WWW-Authenticate"]
    assert client.post("/login", 401, json={"login": "hobbes", "pword": "susie"}).json["code"] == "otp_required"
    assert "otp" not in client.post("/login", 401, json={"login": "hobbes", "pword": "guess"}).json["code"]
    client.get("/whoami", 200, headers=token)
    client.get("/whoami", 200, headers=susie)
    assert client.post("/login", 201, json={"login": "hobbes", "pword": "susie", "otp": digits(secret)}).json
    client.post("/totp", 409, headers=hobbes | {"X-OTP": digits(secret, 1)})


def test_digits_are_good_once_and_so_are_recovery_texts(client: Any, sql: Any, hobbes: Any) -> None:
    secret, texts = force(client, sql)
    now = {"X-OTP": digits(secret)}
    client.get("/whoami", 200, headers=hobbes | now)
    for _ in range(2):
        assert client.get("/whoami", 401, headers=hobbes | now).json["code"] == "invalid_otp"
    client.get("/whoami", 401, headers=hobbes | {"X-OTP": digits(secret, -1)})  # before the last used
    client.get("/whoami", 200, headers=hobbes | {"X-OTP": texts[0].upper()})
    client.get("/whoami", 401, headers=hobbes | {"X-OTP": texts[0]})
    client.post("/login", 201, json={"login": "hobbes", "pword": "susie", "otp": texts[1]})
    assert sql("SELECT count(*) FROM Recovery") == [(8,)]
    assert sql("SELECT count(*) FROM Audit WHERE event = 'OTP_FAILED'") == [(4,)]


def test_of_many_who_send_digits_at_once_one_gets_in(client: Any, sql: Any, hobbes: Any) -> None:
    from FlaskTester import _ft_authenticator, _ft_client

    secret, _ = force(client, sql)
    headers, codes = hobbes | {"X-OTP": digits(secret)}, list[int]()

    def send() -> None:
        codes.append(_ft_client(_ft_authenticator()).get("/whoami", headers=headers).status_code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 401, 401, 401]


def test_guesses_at_digits_are_attempts_at_the_password(client: Any, sql: Any, hobbes: Any) -> None:
    secret, _ = force(client, sql)
    for guess in ("000000", "111111", "a guess", "222222", "333333"):
        client.get("/whoami", 401, headers=hobbes | {"X-OTP": guess})
    client.get("/whoami", 429, headers=hobbes | {"X-OTP": digits(secret)})


def test_a_second_factor_is_ended_by_its_digits(client: Any, sql: Any, hobbes: Any) -> None:
    secret, texts = force(client, sql)
    client.delete("/totp", 401, json={"otp": digits(secret)}, headers=hobbes)
    answer = client.delete("/totp", 400, json={"otp": "000000"}, headers=hobbes | {"X-OTP": texts[0]})
    assert answer.json["code"] == "wrong_otp"
    client.delete("/totp", 204, json={"otp": digits(secret)}, headers=hobbes | {"X-OTP": digits(secret)})
    client.get("/whoami", 200, headers=hobbes)
    assert sql("SELECT count(*) FROM Recovery") == [(0,)]
    client.delete("/totp", 400, json={"otp": texts[1]}, headers=hobbes)
    said = sql("SELECT event, login, key FROM Audit WHERE event LIKE 'TOTP%' ORDER BY aid")
    assert said == [("TOTP_CONFIRMED", "hobbes", "2"), ("TOTP_ENDED", "hobbes", "2")]
    force(client, sql)


def test_a_second_factor_can_be_ended_by_a_recovery_text(client: Any, sql: Any, hobbes: Any) -> None:
    _, texts = force(client, sql)
    client.delete("/totp", 204, json={"otp": texts[1]}, headers=hobbes | {"X-OTP": texts[0]})
    client.get("/whoami", 200, headers=hobbes)


@pytest.mark.internal
def test_a_server_without_a_key_keeps_none(client: Any, sql: Any, hobbes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app

    secret, _ = force(client, sql)
    monkeypatch.setattr(app.extensions["auth"].totp, "sealed", None)
    client.get("/whoami", 503, headers=hobbes | {"X-OTP": digits(secret)})  # what is in force is not passed by
    sql("DELETE FROM Totp")
    assert client.post("/totp", 409, headers=hobbes).json["code"] == "totp_unavailable"


@pytest.mark.internal
def test_digits_serve_a_request_that_runs_again(client: Any, sql: Any, hobbes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from database import db
    from engine.problem import Problem

    secret, _ = force(client, sql)
    insert, tries = db.add_owned_uid, list[int]()

    def add(**named: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise Problem(503, retry=True)  # as for a deadlock
        return insert(**named)

    monkeypatch.setitem(vars(db), "add_owned_uid", add)
    client.post("/owned/2", 201, json={"object": "Kite"}, headers=hobbes | {"X-OTP": digits(secret)})
    assert len(tries) > 1


@pytest.mark.internal
def test_digits_serve_a_process_that_remembers_what_is_no_more(client: Any, sql: Any, hobbes: Any) -> None:
    secret, _ = force(client, sql)
    client.get("/whoami", 200, headers=hobbes | {"X-OTP": digits(secret)})
    sql("UPDATE Utilisateur SET epoch = epoch + 1 WHERE id = 2")
    client.get("/whoami", 200, headers=hobbes | {"X-OTP": digits(secret, 1)})
