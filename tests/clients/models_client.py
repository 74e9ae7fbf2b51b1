"""The models of datamodel-code-generator: what is sent fits them, and what comes back, errors included."""

import os

import httpx
from models_made import PostLogin, PostStuff, Problem, Stuff, StuffKey, User

with httpx.Client(base_url=os.environ["BASE"]) as client:
    body = PostStuff(stuff="datamodel-code-generator").model_dump(mode="json")
    made = StuffKey.model_validate(client.post("/stuff", json=body).json())
    assert Problem.model_validate(client.post("/stuff", json=body).json()).status == 409
    page = client.get("/stuff", params={"limit": 1})
    assert [Stuff.model_validate(row).stuff for row in page.json()] == ["Chair"]
    assert [Stuff.model_validate(row).sid for row in client.get(page.links["next"]["url"]).json()] == [2]
    path = f"/stuff/{made.sid}"
    match = {"If-Match": client.get(path).headers["ETag"]}
    assert client.put(path, json={"stuff": "models changed"}, headers=match).status_code == 204
    assert Problem.model_validate(client.put(path, json={"stuff": "late"}, headers=match).json()).status == 412
    login = PostLogin(login="calvin", pword="hobbes").model_dump(mode="json")
    login["pword"] = "hobbes"  # a model shows no SecretStr
    token = client.post("/login", json=login).json()
    users = client.get("/users", headers={"Authorization": f"Bearer {token}"}).json()
    assert User.model_validate(users[0]).login == "calvin"
