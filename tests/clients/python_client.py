"""The client of openapi-python-client: create, page, 409, 412, log-in."""

import os
import re

from python_client_made import AuthenticatedClient, Client
from python_client_made.api.account import post_login
from python_client_made.api.stuff import get_stuff, get_stuff_sid, post_stuff, put_stuff_sid
from python_client_made.api.users import get_users
from python_client_made.models import PostLogin, PostStuff, PutStuffSid

client = Client(base_url=os.environ["BASE"])
made = post_stuff.sync_detailed(client=client, body=PostStuff(stuff="openapi-python-client"))
assert made.status_code == 201
assert post_stuff.sync_detailed(client=client, body=PostStuff(stuff="openapi-python-client")).status_code == 409
page = get_stuff.sync_detailed(client=client, limit=1)
assert [row.stuff for row in page.parsed] == ["Chair"]
after = re.search("after=([^&>]+)", page.headers["Link"])[1]
assert [row.sid for row in get_stuff.sync(client=client, limit=1, after=after)] == [2]
etag = get_stuff_sid.sync_detailed(made.parsed.sid, client=client).headers["ETag"]
change = {"client": client, "body": PutStuffSid(stuff="python changed"), "if_match": etag}
assert put_stuff_sid.sync_detailed(made.parsed.sid, **change).status_code == 204
assert put_stuff_sid.sync_detailed(made.parsed.sid, **change).status_code == 412
token = post_login.sync(client=client, body=PostLogin(login="calvin", pword="hobbes"))
users = get_users.sync(client=AuthenticatedClient(base_url=os.environ["BASE"], token=token))
assert users[0].login == "calvin"
