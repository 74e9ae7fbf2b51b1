"""Who may call what: every route, method and caller, in one table."""

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import basic, bearer

CALLERS = ["nobody", "bad password", "expired token", "forged token", "revoked token", "other", "owner", "admin"]

# the owner is hobbes, user 2; other is susie, user 3; admin is calvin, user 1
TABLE = """
method path             nobody badpw expired forged revoked other owner admin
GET    /                   200   200     200    200     200   200   200   200
GET    /version            200   200     200    200     200   200   200   200
GET    /live               200   200     200    200     200   200   200   200
GET    /ready              200   200     200    200     200   200   200   200
GET    /stuff              200   200     200    200     200   200   200   200
POST   /stuff              201   201     201    201     201   201   201   201
POST   /stuff/batch        201   201     201    201     201   201   201   201
GET    /stuff/<sid>        200   200     200    200     200   200   200   200
PUT    /stuff/<sid>        204   204     204    204     204   204   204   204
PATCH  /stuff/<sid>        204   204     204    204     204   204   204   204
DELETE /stuff/<sid>        204   204     204    204     204   204   204   204
POST   /register           201   201     201    201     201   201   201   201
GET    /login              401   401     401    401     401   200   200   200
POST   /login              401   401     401    401     401   401   401   401
DELETE /login              401   401     401    401     401   204   204   204
POST   /refresh            401   401     401    401     401   401   401   401
GET    /sessions           401   401     401    401     401   200   200   200
DELETE /sessions/<sid>     401   401     401    401     401   404   204   404
GET    /keys               401   401     401    401     401   200   200   200
POST   /keys               401   401     401    401     401   201   201   201
DELETE /keys/<kid>         401   401     401    401     401   404   404   404
POST   /totp               401   401     401    401     401   201   201   201
POST   /totp/confirm       401   401     401    401     401   400   400   400
DELETE /totp               401   401     401    401     401   400   400   400
GET    /whoami             401   401     401    401     401   200   200   200
GET    /qui-suis-je        401   401     401    401     401   401   401   401
POST   /password           401   401     401    401     401   400   400   204
GET    /hello              401   401     401    401     401   200   200   200
GET    /admin              401   401     401    401     401   403   403   200
GET    /users              401   401     401    401     401   403   403   200
POST   /users              401   401     401    401     401   403   403   201
GET    /users/<uid>/groups 401   401     401    401     401   403   200   200
PUT    /users/<uid>/groups/<path:group> 401 401 401 401 401   403   403   204
DELETE /users/<uid>/groups/<path:group> 401 401 401 401 401   403   403   204
GET    /users/<uid>        401   401     401    401     401   403   200   200
PATCH  /users/<uid>        401   401     401    401     401   403   403   204
DELETE /users/<uid>        401   401     401    401     401   403   403   409
POST   /users-mgt          401   401     401    401     401   403   403   201
GET    /owned              401   401     401    401     401   403   403   200
GET    /object             401   401     401    401     401   403   403   200
GET    /owned/<uid>        401   401     401    401     401   403   200   403
POST   /owned/<uid>        401   401     401    401     401   403   201   403
GET    /owned/<uid>/<oid>  401   401     401    401     401   403   200   403
PUT    /owned/<uid>/<oid>  401   401     401    401     401   403   204   403
PATCH  /owned/<uid>/<oid>  401   401     401    401     401   403   204   403
DELETE /owned/<uid>/<oid>  401   401     401    401     401   403   204   403
GET    /cmp/add            401   401     401    401     401   200   200   200
GET    /cmp/hash           401   401     401    401     401   200   200   200
GET    /audit              401   401     401    401     401   403   403   200
GET    /changes            401   401     401    401     401   200   200   200
GET    /openapi.json       200   200     200    200     200   200   200   200
GET    /docs               200   200     200    200     200   200   200   200
GET    /docs/<path:file>   200   200     200    200     200   200   200   200
GET    /console            200   200     200    200     200   200   200   200
GET    /console/<path:file> 200  200     200    200     200   200   200   200
GET    /metrics            401   401     401    401     401   403   403   200
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()[1:]]
OFFERED = {row[1]: {other[0] for other in ROWS if other[1] == row[1]} for row in ROWS}
REFUSED = [
    (method, path) for path in OFFERED for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method not in OFFERED[path]
]

# what the requests that need something send
SENT: dict[str, dict[str, Any]] = {
    "POST /stuff": {"stuff": "Lamp"},
    "POST /stuff/batch": {"items": [{"stuff": "Lamp"}]},
    "PUT /stuff/<sid>": {"stuff": "Lamp"},
    "PATCH /stuff/<sid>": {"stuff": "Lamp"},
    "POST /register": {"login": "moe", "pword": "secret"},
    "POST /login": {"login": "hacker", "pword": "secret"},
    "POST /refresh": {"refresh": "no such text"},
    "POST /keys": {"note": "reports", "scopes": ["owned:read"]},
    "POST /totp/confirm": {"otp": "123456"},
    "DELETE /totp": {"otp": "123456"},
    "POST /password": {"old": "hobbes", "new": "spaceman spiff"},
    "POST /users": {"login": "moe", "pass": "secret"},
    "PATCH /users/<uid>": {"admin": True},
    "POST /users-mgt": {"u": {"login": "moe", "password": "secret"}},
    "POST /owned/<uid>": {"object": "Lamp"},
    "PUT /owned/<uid>/<oid>": {"object": "Lamp"},
    "PATCH /owned/<uid>/<oid>": {"object": "Lamp"},
    "GET /cmp/add": {"i": 30, "j": 12},
    "GET /cmp/hash": {"apass": "secret"},
}


@pytest.fixture
def headers(client: Any, sql: Any) -> dict[str, dict[str, str]]:
    """The credentials of each caller."""
    good = client.get("/login", 200, headers=basic("hobbes", "susie")).json
    realm, _, end, signature = good.split(":")
    past = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - 60))
    client.delete("/login", 204, headers=bearer(good))
    return {
        "nobody": {},
        "bad password": basic("hobbes", "hobbes"),
        "expired token": bearer(expired(sql, past)),
        "forged token": bearer(f"{realm}:calvin:{end}:{signature}"),
        "revoked token": bearer(good),
        "other": basic("susie", "derkins"),
        "owner": basic("hobbes", "susie"),
        "admin": basic("calvin", "hobbes"),
    }


def concrete(path: str) -> str:
    """A path for its parameters' names."""
    path = path.replace("console/<path:file>", "console/main.js").replace("<path:group>", "EDITOR").replace("<kid>", "1")
    return path.replace("<sid>", "1").replace("<uid>", "2").replace("<oid>", "2").replace("<path:file>", "try.js")


def expired(sql: Any, end: str) -> str:
    """A token that was good until then, signed with the secret of the tests' configuration."""
    import hashlib
    import hmac

    conf: dict[str, Any] = {"__file__": __file__.replace("test_rights.py", "app.conf")}
    exec(Path(conf["__file__"]).read_text(), conf)  # noqa: S102
    signed = f"stuff:hobbes:{end}:2:2:salt".encode()  # user 2, in the epoch that follows one log-out
    token = f"stuff:hobbes:{end}:" + hmac.digest(conf["FSA_TOKEN_SECRET"].encode(), signed, hashlib.sha256).hex()
    made = "INSERT INTO Session(uid, epoch, digest, salt, until, address, agent) VALUES (2, 2, %s, 'salt', now(), '', '')"
    sql(made, hashlib.sha256(token.encode()).hexdigest())
    return token


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("row", ROWS, ids=[" ".join(row[:2]) for row in ROWS])
def test_the_table_of_rights(client: Any, headers: Any, row: list[str], caller: str) -> None:
    method, path, status = row[0], row[1], int(row[2 + CALLERS.index(caller)])
    sent = {"json": dict(SENT[f"{method} {path}"])} if f"{method} {path}" in SENT else {}
    response = client.request(method, concrete(path), status, headers=headers[caller], **sent)
    if status == 401:
        accepted = dict.fromkeys(("/login", "/password", "/totp", "/totp/confirm"), 'Basic realm="stuff"')
        accepted["/qui-suis-je"] = 'Bearer realm="stuff"'
        if (method, path) != ("DELETE", "/login"):
            assert response.headers["WWW-Authenticate"] == accepted.get(path, 'Basic realm="stuff", Bearer realm="stuff"')
        if caller == "expired token" and path not in ("/login", "/password", "/refresh", "/totp", "/totp/confirm"):
            assert response.json["error"] == "expired token"
        assert "realm" not in response.text
    if headers[caller] and status in (401, 403):
        assert headers[caller]["Authorization"].split()[1] not in response.text


@pytest.mark.internal
def test_every_route_is_in_the_table() -> None:
    from app import app

    routes = {
        (method, rule.rule.replace("string:", ""))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert routes == {(row[0], row[1]) for row in ROWS}


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_a_method_that_is_not_in_the_table_is_405(client: Any, method: str, path: str) -> None:
    response = client.request(method, concrete(path), 405)
    assert OFFERED[path] <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ["/owned/2/1", "/owned/2/99", "/owned/2/2147483648"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_object_of_another_user_is_not_there(client: Any, hobbes: Any, method: str, path: str) -> None:
    """oid 1 exists and is calvin's: for hobbes, it is as absent as 99."""
    sent = {"json": {"object": "x"}} if method == "PUT" else {}
    assert client.request(method, path, 404, headers=hobbes, **sent).json["error"] == "object not found"


def test_the_messages_of_refusals(client: Any, calvin: Any, hobbes: Any) -> None:
    def says(path: str, status: int, headers: dict[str, str] | None = None) -> str:
        return str(client.get(path, status, headers=headers or {}).json["error"])

    assert says("/hello", 401) == "missing authorization header"
    assert says("/hello", 401, basic("hacker", "x")) == "no such user: hacker"
    assert says("/hello", 401, basic("hobbes", "x")) == "invalid password for hobbes"
    assert says("/admin", 403, hobbes) == 'not in group "ADMIN"'
    assert says("/qui-suis-je", 401, hobbes) == "missing token"
    assert says("/owned/1", 403, hobbes) == "permission denied on user:1 (None)"
    assert says("/owned/42", 404, calvin) == "object not found"
    assert says("/users/42", 404, calvin) == "object not found"
