"""Groups: named by the configuration, given and taken by administrators, rules of routes."""

from pathlib import Path
from typing import Any

import pytest
from conftest import basic, bearer
from inside import answers, environment

# an application with a route for editors, and one whose object rule asks for a group as well
CODE = """
import json, sys
from app import app
from engine.auth.groups import in_group
from engine.types import Key

app.object_perms("edited", lambda login, uid, mode: in_group("EDITOR", login))

@app.get("/edit", authorize="EDITOR")
def get_edit() -> str:
    return "edited"

@app.get("/edit/<uid>", authorize=("edited", "uid"))
def get_edit_uid(uid: Key) -> str:
    return "edited"

client = app.test_client()
for path, headers in json.load(sys.stdin):
    print(json.dumps({"status": client.get(path, headers=headers).status_code}))
"""
WRONG = """
import json
from app import app
try:
    @app.get("/edit", authorize="EDITR")
    def get_edit() -> str:
        return "edited"
except BaseException as error:
    print(json.dumps({"error": str(error)}))
"""


def token(client: Any, login: str, password: str) -> str:
    return str(client.get("/login", 200, headers=basic(login, password)).json)


def test_groups_are_given_taken_and_told(client: Any, calvin: Any, hobbes: Any) -> None:
    assert client.get("/users/1/groups", 200, headers=calvin).json == ["ADMIN"]
    assert client.get("/users/2/groups", 200, headers=hobbes).json == []
    for group in ("READER", "EDITOR", "EDITOR"):
        client.put(f"/users/2/groups/{group}", 204, headers=calvin)
    assert client.get("/users/2/groups", 200, headers=hobbes).json == ["EDITOR", "READER"]
    client.delete("/users/2/groups/READER", 204, headers=calvin)
    client.delete("/users/2/groups/READER", 204, headers=calvin)
    assert client.get("/users/2/groups", 200, headers=calvin).json == ["EDITOR"]


@pytest.mark.parametrize("path", ["/users/99/groups/EDITOR", "/users/2/groups/NOBODY", "/users/2/groups/editor"])
def test_what_is_no_user_or_group_is_not_found(client: Any, calvin: Any, path: str) -> None:
    client.put(path, 404, headers=calvin)
    client.delete(path, 404, headers=calvin)
    client.get("/users/99/groups", 404, headers=calvin)


def test_the_group_of_administrators_is_their_column(client: Any, sql: Any, calvin: Any) -> None:
    client.put("/users/2/groups/ADMIN", 204, headers=calvin)
    client.put("/users/2/groups/ADMIN", 204, headers=calvin)
    assert sql("SELECT isAdmin, groups FROM Utilisateur WHERE id = 2") == [(True, [])]
    client.get("/admin", 200, headers=basic("hobbes", "susie"))
    client.delete("/users/2/groups/ADMIN", 204, headers=calvin)
    client.get("/admin", 403, headers=basic("hobbes", "susie"))
    assert client.delete("/users/1/groups/ADMIN", 409, headers=calvin).json["code"] == "last_administrator"


def test_another_group_kills_the_tokens_and_nothing_new_does_not(client: Any, calvin: Any) -> None:
    old = bearer(token(client, "hobbes", "susie"))
    client.put("/users/2/groups/EDITOR", 204, headers=calvin)
    client.get("/whoami", 401, headers=old)
    new = bearer(token(client, "hobbes", "susie"))
    client.put("/users/2/groups/EDITOR", 204, headers=calvin)
    client.get("/whoami", 200, headers=new)
    client.delete("/users/2/groups/EDITOR", 204, headers=calvin)
    client.get("/whoami", 401, headers=new)


def test_groups_are_in_the_trail(client: Any, calvin: Any, sql: Any) -> None:
    client.put("/users/2/groups/EDITOR", 204, headers=calvin)
    assert sql("SELECT login, before -> 'groups', after -> 'groups' FROM Audit ORDER BY aid DESC LIMIT 1") == [
        ("calvin", [], ["EDITOR"])
    ]


@pytest.mark.internal
def test_a_group_is_a_rule_of_routes_and_of_objects(client: Any, sql: Any, tmp_path: Path) -> None:
    sql("UPDATE Utilisateur SET groups = '{EDITOR}' WHERE id = 2")
    env = environment(tmp_path, GROUPS=["EDITOR"])
    callers = basic("hobbes", "susie"), basic("susie", "derkins")
    asked = [(path, caller) for path in ("/edit", "/edit/1") for caller in callers]
    assert [answer["status"] for answer in answers(CODE, asked, env)] == [200, 403, 200, 403]


@pytest.mark.internal
def test_a_rule_that_names_no_group_is_refused_at_start(tmp_path: Path) -> None:
    assert "EDITR" in answers(WRONG, [], environment(tmp_path, GROUPS=["EDITOR"]))[0]["error"]


@pytest.mark.internal
@pytest.mark.parametrize("names", [["editor"], ["ADMIN"], ["OPEN"], [""]])
def test_names_that_mean_something_else_are_refused(names: list[str]) -> None:
    from engine.auth.groups import checks

    with pytest.raises(SystemExit, match="GROUPS names what can be no group"):
        checks(names)
