"""What a user may rely on: registering, logging in and out, passwords, tokens; and what a guesser runs into."""

import json
import re
import threading
from typing import Any

import pytest
from conftest import basic, bearer, below

MANY = range(12)  # requests that meet every worker of a server


def login(client: Any, name: str, password: str) -> dict[str, str]:
    """The headers of a fresh token."""
    return bearer(client.get("/login", 200, headers=basic(name, password)).json)


def test_whoever_registers_may_log_in(client: Any, calvin: Any) -> None:
    response = client.post("/register", 201, data={"login": "moe", "pword": "secret"})
    assert response.text == ""
    assert below(response.headers["Location"]) == "/users/4"
    assert client.get("/whoami", 200, headers=basic("moe", "secret")).json == "moe"
    assert client.get("/users/4", 200, headers=calvin).json["isadmin"] is False
    assert client.post("/register", 409, data={"login": "moe", "pword": "secret"}).json["code"] == "duplicate"
    client.post("/register", 400, data={"login": "moe", "pword": "secret", "admin": "true"})


def test_a_login_tried_before_it_was_registered_is_known_at_once(client: Any) -> None:
    for _ in MANY[:4]:
        client.get("/hello", 401, headers=basic("moe", "secret"))
    client.post("/register", 201, data={"login": "moe", "pword": "secret"})
    for _ in MANY:
        client.get("/hello", 200, headers=basic("moe", "secret"))


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\tb", "a\nb", "x" * 65, "\0", None, 5])
def test_a_login_is_one_word_without_a_colon(client: Any, name: Any) -> None:
    response = client.post("/register", 400, json={"login": name, "pword": "secret"})
    assert [fault["field"] for fault in response.json["errors"]] == ["login"]


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("abc", "password_too_short"),
        ("x" * 73, "password_too_long"),
        ("é" * 37, "password_too_long"),
        ("", "invalid_parameter"),
    ],
)
def test_a_password_has_4_characters_to_72_bytes(client: Any, calvin: Any, password: str, code: str) -> None:
    u = {"login": "moe", "password": password}
    for path, sent in (("/register", {"login": "moe", "pword": password}), ("/users", {"login": "moe", "pass": password}),
                       ("/users-mgt", {"u": u})):  # fmt: skip
        assert client.post(path, 400, json=sent, headers=calvin).json["code"] == code
    client.patch("/users/2", 400, json={"pass": password}, headers=calvin)
    client.post("/password", 400, json={"old": "hobbes", "new": password}, headers=calvin)
    client.get("/hello", 401, headers=basic("moe", password))


@pytest.mark.parametrize("password", ["x" * 72, "é" * 36, "pass word", "a:b:c", "🦆🦆🦆🦆"])
def test_any_password_that_is_fit_opens(client: Any, password: str) -> None:
    client.post("/register", 201, json={"login": "moe", "pword": password})
    for _ in range(2):
        client.get("/hello", 200, headers=basic("moe", password))
    client.get("/hello", 401, headers=basic("moe", password + "x"))
    client.get("/hello", 401, headers=basic("moe", password[:-1]))


def test_a_token_says_who_one_is(client: Any) -> None:
    token = client.get("/login", 200, headers=basic("hobbes", "susie")).json
    assert re.fullmatch(r"stuff:hobbes:\d{14}:[0-9a-f]{64}", token)
    for name in ("Bearer", "bearer", "BEARER"):
        assert client.get("/qui-suis-je", 200, headers={"Authorization": f"{name} {token}"}).json == "hobbes"
    assert client.get("/hello", 200, headers=bearer(token)).json == "hello hobbes!"
    assert client.get("/version", 200, headers=bearer(token)).json["user"] == "hobbes"
    assert client.get("/version", 200, headers=bearer(token + "x")).json["user"] is None


@pytest.mark.parametrize(
    ("login", "password", "standing"),
    [("calvin", "hobbes", (1, ["ADMIN"])), ("hobbes", "susie", (2, [])), ("hobbes", "no", (None, []))],
)
def test_the_version_says_who_one_is_and_of_which_groups(client: Any, login: str, password: str, standing: Any) -> None:
    said = client.get("/version", 200, headers=basic(login, password)).json
    assert (said["id"], said["groups"]) == standing


def test_login_may_come_as_parameters(client: Any) -> None:
    for kind in ("data", "json"):
        token = client.post("/login", 201, **{kind: {"login": "hobbes", "pword": "susie"}}).json
        assert client.get("/qui-suis-je", 200, headers=bearer(token)).json == "hobbes"
    client.post("/login", 401, data={"login": "hobbes", "pword": "calvin"})
    client.post("/login", 401, data={"login": "hobbes"})
    client.post("/login", 401, json={"login": "hobbes", "pword": 5})


@pytest.mark.parametrize("name", ["é", "日本", "100%", "a+b&c=%41", "~x-y_z.@!*"])
def test_any_login_has_a_token_that_a_header_takes(client: Any, name: str) -> None:
    client.post("/register", 201, json={"login": name, "pword": "secret"})
    token = client.post("/login", 201, json={"login": name, "pword": "secret"}).json
    assert re.fullmatch("[!-~]+", token)
    assert client.get("/whoami", 200, headers=bearer(token)).json == name


@pytest.mark.parametrize("old", ["x" * 73, "é" * 37, "susie" + "\0"])
def test_an_old_password_that_nobody_can_have_is_not_right(client: Any, hobbes: Any, old: str) -> None:
    response = client.post("/password", 400, json={"old": old, "new": "secret"}, headers=hobbes)
    assert [fault["field"] for fault in response.json["errors"]] == ["old"]


@pytest.mark.parametrize("place", range(4))
def test_a_tampered_token_is_refused(client: Any, place: int) -> None:
    token = client.get("/login", 200, headers=basic("hobbes", "susie")).json
    parts = token.split(":")
    for other in ("", "x", "calvin", "29991231235959", parts[place] + "0", parts[place][:-1], "é"):
        bad = ":".join([*parts[:place], other, *parts[place + 1 :]])
        response = client.get("/hello", 401, headers=bearer(bad.encode().decode("latin1")))
        # a server may drop a header that is not ASCII
        assert response.json["error"] == "invalid token" or not bad.isascii()


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer :::", "Basic", "Basic !!!", "Basic aG9iYmVz", "Basic /w==", "x", "Digest a=b"]
)
def test_a_malformed_authorization_is_refused(client: Any, header: str) -> None:
    response = client.get("/hello", 401, headers={"Authorization": header})
    assert response.headers["WWW-Authenticate"] == 'Basic realm="stuff", Bearer realm="stuff"'


@pytest.mark.parametrize("login", ["x" * 65, "x" * 5000, "é" * 2000, "hobbes" + " " * 100])
def test_a_login_that_is_too_long_is_nobodys(client: Any, login: str) -> None:
    client.get("/hello", 401, headers=basic(login, "susie"))
    client.post("/login", 401, json={"login": login, "pword": "susie"})


# nothing outlives a change


def test_log_out_kills_the_tokens_of_before(client: Any, hobbes: Any) -> None:
    old, other = login(client, "hobbes", "susie"), login(client, "susie", "derkins")
    client.delete("/login", 204, headers=old)
    for _ in MANY:
        client.get("/whoami", 401, headers=old)
        client.get("/whoami", 200, headers=other)
        client.get("/whoami", 200, headers=hobbes)
    client.get("/whoami", 200, headers=login(client, "hobbes", "susie"))


def test_a_token_that_was_just_killed_writes_nothing(client: Any, sql: Any) -> None:
    token = login(client, "hobbes", "susie")
    for number in MANY:
        client.post("/owned/2", 201, data={"object": f"Tuna {number}"}, headers=token)
    before = sql("SELECT oid, object FROM Owned ORDER BY oid")
    sql("UPDATE Utilisateur SET epoch = epoch + 1 WHERE login = 'hobbes'")
    for number in MANY:  # not even 409, for those that are there
        client.post("/owned/2", 401, data={"object": f"Tuna {number}"}, headers=token)
        client.patch(f"/owned/2/{before[0][0]}", 401, data={"object": "Wool"}, headers=token)
    assert sql("SELECT oid, object FROM Owned ORDER BY oid") == before


@pytest.mark.internal
def test_only_so_many_tokens_are_remembered(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app
    from engine.auth import user

    monkeypatch.setattr(user, "MOST", 2)
    made = [login(client, "hobbes", "susie"), login(client, "susie", "derkins"), login(client, "calvin", "hobbes")]
    for token in made * 2:
        client.get("/whoami", 200, headers=token)
    assert 1 <= len(app.extensions["auth"].tokens.memory.known) <= 2


def test_another_password_holds_at_once(client: Any, hobbes: Any) -> None:
    token = login(client, "hobbes", "susie")
    for _ in MANY:
        client.get("/whoami", 200, headers=hobbes)
    client.post("/password", 400, data={"old": "wrong", "new": "tuna sandwich"}, headers=hobbes)
    client.post("/password", 401, data={"old": "susie", "new": "tuna sandwich"}, headers=token)
    client.post("/password", 204, data={"old": "susie", "new": "tuna sandwich"}, headers=hobbes)
    for _ in MANY:
        client.get("/whoami", 401, headers=token)
        client.get("/whoami", 200, headers=basic("hobbes", "tuna sandwich"))
    assert client.get("/whoami", 401, headers=hobbes).json["error"] == "invalid password for hobbes"


@pytest.mark.parametrize("change", ["api", "psql"])
def test_another_role_holds_at_once(client: Any, sql: Any, calvin: Any, hobbes: Any, change: str) -> None:
    token = login(client, "hobbes", "susie")
    for _ in MANY:
        client.get("/admin", 403, headers=hobbes)
        client.get("/admin", 403, headers=token)
    if change == "api":
        client.patch("/users/2", 204, json={"admin": True}, headers=calvin)
    else:
        sql("UPDATE Utilisateur SET isAdmin = TRUE WHERE login = 'hobbes'")
    for _ in MANY:
        client.get("/admin", 200, headers=hobbes)
        client.get("/admin", 401, headers=token)


def test_a_removed_user_is_out_at_once(client: Any, sql: Any, calvin: Any, susie: Any) -> None:
    token = login(client, "susie", "derkins")
    sql("DELETE FROM Owned WHERE owner = 3")
    for _ in MANY:
        client.get("/owned/3", 200, headers=susie)
        client.get("/owned/3", 200, headers=token)
    client.delete("/users/3", 204, headers=calvin)
    for _ in MANY[:4]:
        client.get("/owned/3", 401, headers=token)
        client.get("/owned/3", 401, headers=susie)
    client.get("/owned/3", 404, headers=calvin)
    client.post("/register", 201, json={"login": "susie", "pword": "derkins"})
    client.get("/whoami", 401, headers=token)


# hashes


@pytest.mark.parametrize("scheme", ["pbkdf2_sha256", "sha512_crypt"])
def test_a_weaker_hash_opens_and_is_replaced(client: Any, sql: Any, scheme: str) -> None:
    import passlib.hash

    old = getattr(passlib.hash, scheme).using(rounds=1000).hash("transmogrifier")
    sql("UPDATE Utilisateur SET pword = %s WHERE id = 2", old)
    token = login(client, "hobbes", "transmogrifier")
    new = sql("SELECT pword FROM Utilisateur WHERE id = 2")[0][0]
    assert new.startswith("$2b$")
    client.get("/hello", 200, headers=basic("hobbes", "transmogrifier"))
    client.get("/hello", 200, headers=token)  # the password is the same, so it lives on
    assert sql("SELECT pword FROM Utilisateur WHERE id = 2") == [(new,)]


@pytest.mark.internal
def test_a_cheaper_bcrypt_opens_and_is_replaced(client: Any, sql: Any, configured: Any) -> None:
    configured(PASSWORD_COST=5)
    login(client, "hobbes", "susie")
    assert sql("SELECT pword FROM Utilisateur WHERE id = 2")[0][0].startswith("$2b$05$")


# guessing


def test_guesses_at_an_account_are_counted_and_end(client: Any, susie: Any) -> None:
    for _ in range(5):
        client.get("/hello", 401, headers=basic("hobbes", "guess"))
    response = client.get("/hello", 429, headers=basic("hobbes", "guess"))
    assert 1 <= int(response.headers["Retry-After"]) <= 600
    assert response.headers["RateLimit"].startswith('"login";r=0;t=')
    assert response.headers["RateLimit-Policy"] == '"login";q=5;w=600'
    assert response.json["code"] == "too_many_attempts"
    client.post("/login", 429, data={"login": "hobbes", "pword": "another guess"})
    client.get("/hello", 200, headers=susie)


def test_a_thousand_guesses_at_once_are_five(client: Any, sql: Any) -> None:
    from FlaskTester import _ft_authenticator, _ft_client

    codes: list[int] = []

    def guess() -> None:
        mine = _ft_client(_ft_authenticator())
        for _ in range(10):
            codes.append(mine.get("/hello", headers=basic("hobbes", "guess")).status_code)

    threads = [threading.Thread(target=guess) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [401] * 5 + [429] * 35
    assert sql("SELECT number FROM Attempt WHERE subject = 'p 127.0.0.1 hobbes'") == [(40,)]


def test_a_right_password_from_elsewhere_still_gets_in(client: Any, sql: Any, hobbes: Any) -> None:
    sql("INSERT INTO Attempt(subject, number, until) VALUES ('l hobbes', 100000, now() + '1 minute'),"
        " ('p 198.51.100.7 hobbes', 100000, now() + '1 minute')")  # fmt: skip
    client.get("/hello", 200, headers=hobbes)


def test_an_account_under_attack_gives_each_address_one_guess(client: Any, sql: Any) -> None:
    sql("INSERT INTO Attempt(subject, number, until) VALUES ('l hobbes', 100000, now() + '1 minute')")
    client.get("/hello", 401, headers=basic("hobbes", "guess"))
    client.get("/hello", 429, headers=basic("hobbes", "guess"))


def test_attempts_are_forgotten_after_the_period(client: Any, sql: Any, hobbes: Any) -> None:
    for _ in range(6):
        client.get("/hello", headers=basic("hobbes", "guess"))
    sql("UPDATE Attempt SET until = now() - interval '1 second'")
    client.get("/hello", 200, headers=hobbes)
    client.get("/hello", 401, headers=basic("calvin", "guess"))
    assert sql("SELECT count(*) FROM Attempt WHERE until < now()") == [(0,)]


def test_right_passwords_are_not_counted(client: Any, sql: Any) -> None:
    for n in range(8):
        client.post("/register", 201, data={"login": f"user{n}", "pword": "secret"})
        client.get("/hello", 200, headers=basic(f"user{n}", "secret"))
    assert sql("SELECT max(number) FROM Attempt WHERE subject NOT LIKE 'h %'") == [(0,)]


# a deployed instance, and tokens of the other kind


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another configuration for the time of a test."""
    from app import app
    from engine.auth.schemes import Auth

    def configure(**settings: Any) -> None:
        again = Auth({**app.config, **settings})
        for name, value in vars(again).items():
            monkeypatch.setattr(app.extensions["auth"], name, value)

    return configure


@pytest.mark.internal
def test_a_deployed_instance_does_not_say_which_logins_exist(client: Any, configured: Any) -> None:
    configured(LOCAL=False)
    for header in (basic("hacker", "x"), basic("hobbes", "x"), basic("hobbes", "x" * 100), basic("hobbes", "")):
        assert client.get("/hello", 401, headers=header).json["error"] == "invalid credentials"


@pytest.mark.internal
def test_a_deployed_instance_refuses_common_passwords(client: Any, configured: Any) -> None:
    configured(LOCAL=False, PASSWORD_LENGTH=8)
    assert client.post("/register", 400, json={"login": "moe", "pword": "Password1"}).json["code"] == "password_too_common"
    assert client.post("/register", 400, json={"login": "moe", "pword": "secret7"}).json["code"] == "password_too_short"
    client.post("/register", 201, json={"login": "moe", "pword": "a tiger in a tree"})


@pytest.mark.internal
@pytest.mark.parametrize(
    "password",
    ["        ", "abababab", "tigertiger", "lkjhgfdsa", "uvwxyzabc", "P@$$w0rd2031", "!!Dragon1987", "MOE-at-the-office"],
)
def test_a_deployed_instance_refuses_what_a_guesser_makes_of_words(client: Any, configured: Any, password: str) -> None:
    configured(LOCAL=False, PASSWORD_LENGTH=8)
    sent = {"login": "moe-at-the-office", "pword": password}
    assert client.post("/register", 400, json=sent).json["code"] == "password_too_common"


@pytest.mark.internal
@pytest.mark.parametrize("path", ["/users", "/users-mgt", "/password"])
def test_a_password_is_not_the_login(client: Any, calvin: Any, hobbes: Any, configured: Any, path: str) -> None:
    configured(LOCAL=False, PASSWORD_LENGTH=6)
    name = "wormwood-jr"
    bodies: dict[str, dict[str, Any]] = {
        "/users": {"login": name, "pass": name},
        "/users-mgt": {"u": {"login": name, "password": name}},
        "/password": {"old": "susie", "new": "Hobbes"},
    }
    who = hobbes if path == "/password" else calvin
    assert client.post(path, 400, json=bodies[path], headers=who).json["code"] == "password_too_common"


@pytest.mark.internal
@pytest.mark.parametrize("password", ["tiger in a tree", "7291-4408-kx", "wagon2044-hill", "Crème brûlée"])
def test_other_passwords_are_taken(client: Any, configured: Any, password: str) -> None:
    configured(LOCAL=False, PASSWORD_LENGTH=8)
    client.post("/register", 201, json={"login": "moe", "pword": password})


@pytest.mark.internal
@pytest.mark.parametrize("kind", ["pbkdf2_sha256", "bcrypt"])
def test_an_older_hash_is_verified_beside_one_of_today_s(
    client: Any, sql: Any, configured: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import passlib.hash

    from app import app

    configured(LOCAL=False, PASSWORD_COST=5)
    older = {"pbkdf2_sha256": passlib.hash.pbkdf2_sha256.using(rounds=1000), "bcrypt": passlib.hash.bcrypt.using(rounds=4)}
    old = older[kind].hash("transmogrifier")
    sql("UPDATE Utilisateur SET pword = %s WHERE id = 2", old)
    passwords = app.extensions["auth"].passwords
    start, verified = passwords.place.start, list[str]()

    def watched(work: Any, password: str, reference: str) -> Any:
        verified.append(reference)
        return start(work, password, reference)

    monkeypatch.setattr(passwords.place, "start", watched)
    client.get("/hello", 401, headers=basic("hobbes", "guess"))
    assert verified == [passwords.nobody, old]
    client.get("/hello", 401, headers=basic("nobody", "guess"))
    assert verified[2:] == [passwords.nobody]


@pytest.mark.internal
def test_json_web_tokens_work_the_same(client: Any, configured: Any) -> None:
    import jwt

    secret = "a secret that has two hundred and fifty-six bits"
    configured(FSA_TOKEN_TYPE="jwt", FSA_TOKEN_SECRET=secret)
    token = client.get("/login", 200, headers=basic("hobbes", "susie")).json
    claims = jwt.decode(token, secret, ["HS256"], audience="stuff")
    assert claims["sub"] == "hobbes"
    assert client.get("/qui-suis-je", 200, headers=bearer(token)).json == "hobbes"
    for bad in (
        token + "x", token[:-5], "x.y.z",
        jwt.encode(claims, "another secret of two hundred and fifty-six bits", "HS256"),
        jwt.encode({**claims, "aud": "other"}, secret, "HS256"),
        jwt.encode({**claims, "epoch": 7}, secret, "HS256"),
        jwt.encode({**claims, "sub": "nobody"}, secret, "HS256"),
        jwt.encode({k: v for k, v in claims.items() if k != "exp"}, secret, "HS256"),
        jwt.encode(claims, "", "none"),
    ):  # fmt: skip
        assert client.get("/qui-suis-je", 401, headers=bearer(bad)).json["error"] == "invalid token"
    old = jwt.encode({**claims, "exp": 1}, secret, "HS256")
    assert client.get("/qui-suis-je", 401, headers=bearer(old)).json["error"] == "expired token"
    client.delete("/login", 204, headers=bearer(token))
    client.get("/qui-suis-je", 401, headers=bearer(token))


@pytest.mark.internal
def test_the_secret_of_a_local_instance_is_made_once_and_private(tmp_path: Any) -> None:
    from engine.auth import auth

    path = tmp_path / "deep" / "token.secret"
    secret = auth.local_secret(path)
    assert len(secret) == 64
    assert auth.local_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["token.secret"]


@pytest.mark.internal
def test_addresses_are_told_apart_by_what_their_holder_cannot_change() -> None:
    from app import app
    from engine.auth.address import address

    for given, counted in (
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff", "2001:db8::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("64:ff9b::192.0.2.8", "192.0.2.8"),
        ("192.0.2.7:5678", "192.0.2.7"),
        ("[2001:db8::1]:5678", "2001:db8::/64"),
        ("unknown", "10.0.0.1"),
        ("[", "10.0.0.1"),
    ):
        proxy = {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": "10.0.0.1"}}
        with app.test_request_context(environ_base={"REMOTE_ADDR": given}, environ_overrides=proxy):
            assert address() == counted


@pytest.mark.parametrize("field", ["login", "pword", "otp"])
@pytest.mark.parametrize("unfit", ["\ud800", "a\0b"])
def test_a_login_that_no_text_can_be_is_refused(raw: Any, field: str, unfit: str) -> None:
    body = json.dumps({"login": "calvin", "pword": "hobbes"} | {field: unfit}).encode()
    response = raw("POST", "/login", body, Content_Type="application/json")
    assert (response.status_code, [fault["field"] for fault in response.json["errors"]]) == (400, [field])


def test_a_token_pasted_with_its_quotes_is_taken(client: Any, hobbes: dict[str, str]) -> None:
    token = client.get("/login", 200, headers=hobbes).text.strip()
    assert token.startswith('"')
    assert client.get("/whoami", 200, headers=bearer(token)).json == "hobbes"
