"""What an administrator may rely on with /users, and an owner with /owned."""

import base64
import json
from typing import Any

import pytest
from conftest import basic, below, link


def test_users_are_listed_without_their_hash(client: Any, calvin: Any) -> None:
    users = client.get("/users", 200, headers=calvin).json
    shown = [(u["id"], u["login"], u["isadmin"]) for u in users]
    assert shown == [(1, "calvin", True), (2, "hobbes", False), (3, "susie", False)]
    assert all(u.keys() == {"id", "login", "isadmin", "created"} for u in users)
    first = client.get("/users?limit=2", 200, headers=calvin)
    path = link(first)
    assert [u["id"] for u in client.get(path, 200, headers=calvin).json] == [3]
    assert [u["id"] for u in client.get("/users?filter=%25s%25", 200, headers=calvin).json] == [2, 3]
    client.get("/users?after=WyJzaWQiLDFd", 400, headers=calvin)


@pytest.mark.parametrize("kind", ["json", "data"])
def test_a_user_is_created_read_changed_and_removed(client: Any, calvin: Any, kind: str) -> None:
    response = client.post("/users", 201, headers=calvin, **{kind: {"login": "moe", "pass": "secret", "admin": "true"}})
    assert (response.json, below(response.headers["Location"])) == (4, "/users/4")
    assert client.get("/users/4", 200, headers=calvin).json["isadmin"] is True
    client.patch("/users/4", 204, headers=calvin, **{kind: {"admin": "false"}})
    assert client.get("/users/4", 200, headers=basic("moe", "secret")).json["isadmin"] is False
    client.patch("/users/4", 204, headers=calvin, **{kind: {"pass": "other secret"}})
    client.get("/whoami", 200, headers=basic("moe", "other secret"))
    client.patch("/users/4", 204, headers=calvin)
    client.patch("/users/4", 400, headers=calvin, **{kind: {"admin": "perhaps"}})
    client.patch("/users/99", 404, headers=calvin, **{kind: {"admin": "true"}})
    client.delete("/users/4", 204, headers=calvin)
    client.delete("/users/4", 404, headers=calvin)
    client.post("/users", 409, headers=calvin, **{kind: {"login": "susie", "pass": "secret"}})


@pytest.mark.parametrize("kind", ["json", "data"])
def test_a_parameter_has_one_name(client: Any, calvin: Any, kind: str) -> None:
    response = client.post("/users", 400, headers=calvin, **{kind: {"login": "moe", "_pass": "secret"}})
    assert {fault["field"] for fault in response.json["errors"]} == {"pass", "_pass"}


def test_a_user_is_created_from_a_structure(client: Any, calvin: Any) -> None:
    u = {"login": "moe", "password": "secret", "isAdmin": True}
    assert client.post("/users-mgt", 201, json={"u": u}, headers=calvin).json == 4
    assert client.get("/admin", 200, headers=basic("moe", "secret")).json == "hello admin moe!"
    client.post("/users-mgt", 409, data={"u": u}, headers=calvin)
    response = client.post("/users-mgt", 400, json={"u": u | {"password": "abc"}}, headers=calvin)
    assert response.json["error"] == "password too short!"


@pytest.mark.parametrize(
    ("u", "fields"),
    [
        ({}, ["u.login", "u.password"]),
        ({"login": "a b", "password": 5, "isAdmin": "x", "y": 1}, ["u.login", "u.password", "u.isAdmin", "u.y"]),
        ([], ["u"]),
        (None, ["u"]),
        ("{", ["u"]),
    ],
)
def test_all_faults_of_a_structure_are_named(client: Any, calvin: Any, u: Any, fields: list[str]) -> None:
    response = client.post("/users-mgt", 400, json={"u": u}, headers=calvin)
    assert [fault["field"] for fault in response.json["errors"]] == fields


def test_a_fault_never_repeats_a_password(client: Any, calvin: Any) -> None:
    u = {"login": "a b", "password": "swordfish", "x": 1}
    assert "swordfish" not in client.post("/users-mgt", 400, json={"u": u}, headers=calvin).text
    assert "swordfish" not in client.post("/users-mgt", 400, json={"u": "swordfish"}, headers=calvin).text
    assert "swordfish" not in client.post("/users", 400, json={"pass": ["swordfish"]}, headers=calvin).text


def test_the_last_administrator_stays(client: Any, sql: Any, calvin: Any) -> None:
    assert client.patch("/users/1", 409, json={"admin": False}, headers=calvin).json["code"] == "last_administrator"
    sql("DELETE FROM Owned WHERE owner = 1")
    assert client.delete("/users/1", 409, headers=calvin).json["code"] == "last_administrator"
    client.patch("/users/2", 204, json={"admin": True}, headers=calvin)
    client.patch("/users/1", 204, json={"admin": False}, headers=calvin)
    client.get("/admin", 403, headers=calvin)


def test_who_owns_something_stays(client: Any, calvin: Any) -> None:
    assert client.delete("/users/2", 409, headers=calvin).json["code"] == "still_referenced"


def test_a_change_of_a_user_holds_only_for_the_version_it_names(client: Any, calvin: Any) -> None:
    etag = client.get("/users/2", 200, headers=calvin).headers["ETag"]
    client.patch("/users/2", 204, json={"admin": True}, headers=calvin | {"If-Match": etag})
    client.patch("/users/2", 412, json={"admin": False}, headers=calvin | {"If-Match": etag})
    client.delete("/users/2", 412, headers=calvin | {"If-Match": etag})
    client.get("/users/2", 304, headers=calvin | {"If-None-Match": '"2"'})


@pytest.mark.parametrize(
    ("path", "total"),
    [("/users", 3), ("/users?filter=%25s%25", 2), ("/owned", 6), ("/object", 6), ("/owned/1", 4), ("/audit", 11)],
)
def test_every_list_may_be_counted(client: Any, calvin: Any, path: str, total: int) -> None:
    response = client.get(path + ("&" if "?" in path else "?") + "limit=2", 200, headers=calvin | {"Prefer": "count=exact"})
    assert response.headers["Content-Range"] == f"items 0-1/{total}"
    assert "Content-Range" not in client.get(path, 200, headers=calvin).headers


# order


LISTS = {  # table, and the columns of each order in SQL
    "/users": ("Utilisateur", {"id": "id", "login": "login"}),
    "/users?filter=%25a%25": ("Utilisateur WHERE login LIKE '%a%'", {"id": "id", "login": "login"}),
    "/owned": ("Owned", {"oid": "oid", "object": "object, oid", "owner": "owner, oid"}),
    "/object": ("Owned", {"oid": "oid", "object": "object, oid", "owner": "owner, oid"}),
    "/owned/1": ("Owned WHERE owner = 1", {"oid": "oid", "object": "object"}),
}


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(("path", "column"), [(path, column) for path, (_, orders) in LISTS.items() for column in orders])
def test_every_list_is_had_in_every_order_page_by_page(
    client: Any, sql: Any, calvin: Any, path: str, column: str, limit: int, sign: str
) -> None:
    client.post("/owned/1", 201, json={"object": "\U0010ffff" * 512}, headers=calvin)
    table, orders = LISTS[path]
    order = ", ".join(f"{one} {'DESC' if sign else ''}" for one in orders[column].split(", "))
    key = "id" if table.startswith("U") else "oid"
    rows: list[int] = []
    following: Any = f"{path}{'&' if '?' in path else '?'}sort={sign}{column}&limit={limit}"
    while following:
        response = client.get(following, 200, headers=calvin)
        assert 0 < len(response.json) <= limit
        rows += [row[key] for row in response.json]
        following = link(response)
    assert rows == [one for (one,) in sql(f"SELECT {key} FROM {table} ORDER BY {order}")]


@pytest.mark.parametrize("path", ["/users", "/owned", "/object", "/owned/1"])
def test_a_cursor_belongs_to_the_order_that_gave_it(client: Any, calvin: Any, path: str) -> None:
    for column in LISTS[path][1]:
        for wrong in ([column], [column, None], [column, 1, 2], [column, "a", "b"], ["nope", 1], [column, 1, "x", 1]):
            after = base64.urlsafe_b64encode(json.dumps(wrong).encode()).decode()
            refused = client.get(f"{path}?sort={column}&after={after}", 400, headers=calvin).json
            assert [fault["field"] for fault in refused["errors"]] == ["after"]
    assert client.get(f"{path}?sort=nope", 400, headers=calvin).json["errors"][0]["field"] == "sort"


def test_a_cursor_that_names_no_owner_is_refused(client: Any, calvin: Any) -> None:
    after = base64.urlsafe_b64encode(b'["owner", 1, "calvin"]').decode()
    client.get(f"/owned?sort=owner&after={after}", 400, headers=calvin)


# owned


def test_everybody_owns_a_box(client: Any, calvin: Any, hobbes: Any) -> None:
    everything = client.get("/owned", 200, headers=calvin)
    assert everything.json == client.get("/object", 200, headers=calvin).json
    assert [(o["oid"], o["object"], o["owner"]) for o in everything.json][:4] == [
        (1, "Box", 1), (2, "Box", 2), (3, "Box", 3), (4, "Tiger", 1)]  # fmt: skip
    assert client.get("/owned/2", 200, headers=hobbes).json == [{"oid": 2, "object": "Box", "owner": 2}]
    first = client.get("/owned/1?limit=2", 200, headers=calvin)
    path = link(first)
    assert [o["oid"] for o in first.json + client.get(path, 200, headers=calvin).json] == [1, 4, 5, 6]
    assert "Link" in client.get("/object?limit=2", 200, headers=calvin).headers


def test_an_object_is_created_read_changed_and_removed(client: Any, hobbes: Any) -> None:
    response = client.post("/owned/2", 201, json={"object": "Tuna"}, headers=hobbes)
    oid = response.json["oid"]
    path = below(response.headers["Location"])
    assert path == f"/owned/2/{oid}"
    client.post("/owned/2", 409, json={"object": "Tuna"}, headers=hobbes)
    client.post("/owned/2", 400, json={}, headers=hobbes)
    client.put(path, 204, json={"object": "Salmon"}, headers=hobbes)
    client.patch(path, 409, json={"object": "Box"}, headers=hobbes)
    response = client.get(path, 200, headers=hobbes)
    assert response.json == {"oid": oid, "object": "Salmon", "owner": 2}
    client.put(path, 412, json={"object": "Cod"}, headers=hobbes | {"If-Match": '"1"'})
    client.patch(path, 204, json={"object": "Cod"}, headers=hobbes | {"If-Match": response.headers["ETag"]})
    client.delete(path, 412, headers=hobbes | {"If-Match": '"1"'})
    client.delete(path, 204, headers=hobbes)
    client.delete(path, 404, headers=hobbes)


@pytest.mark.parametrize(("i", "j", "total"), [(30, 12, 42), (-5, 5, 0), (2147483647, 2147483647, 4294967294)])
def test_sums(client: Any, hobbes: Any, i: int, j: int, total: int) -> None:
    assert client.get(f"/cmp/add?i={i}&j={j}", 200, headers=hobbes).json == total
    assert client.get("/cmp/add", 200, json={"i": i, "j": j}, headers=hobbes).json == total


@pytest.mark.parametrize("i", ["", "x", "1.5", "0x10", "nan", "2147483648"])
def test_what_is_no_integer_is_not_added(client: Any, hobbes: Any, i: str) -> None:
    client.get(f"/cmp/add?i={i}&j=1", 400, headers=hobbes)


def test_a_hash_is_bcrypts(client: Any, hobbes: Any) -> None:
    import bcrypt

    hashed = client.get("/cmp/hash?apass=hello", 200, headers=hobbes).json
    assert bcrypt.checkpw(b"hello", hashed.encode())
    assert client.get("/cmp/hash?apass=abc", 400, headers=hobbes).json["error"] == "password too short!"
