"""The Python client of openapi-generator: create, page, 409, 412, log-in."""

import os
import re

from generator_made import AccountApi, ApiClient, Configuration, PostLogin, PostStuff, PutStuffSid, StuffApi, UsersApi
from generator_made.exceptions import ApiException


def refused(call, *args, **kwargs) -> int:
    try:
        call(*args, **kwargs)
    except ApiException as error:
        return error.status
    return 0


config = Configuration(host=os.environ["BASE"])
stuff = StuffApi(ApiClient(config))
made = stuff.post_stuff(PostStuff(stuff="openapi-generator"))
assert refused(stuff.post_stuff, PostStuff(stuff="openapi-generator")) == 409
page = stuff.get_stuff_with_http_info(limit=1)
assert [row.stuff for row in page.data] == ["Chair"]
after = re.search("after=([^&>]+)", page.headers["link"])[1]
assert [row.sid for row in stuff.get_stuff(limit=1, after=after)] == [2]
etag = stuff.get_stuff_sid_with_http_info(made.sid).headers["etag"]
stuff.put_stuff_sid(made.sid, PutStuffSid(stuff="generator changed"), if_match=etag)
assert refused(stuff.put_stuff_sid, made.sid, PutStuffSid(stuff="late"), if_match=etag) == 412
token = AccountApi(ApiClient(config)).post_login(PostLogin(login="calvin", pword="hobbes"))
users = UsersApi(ApiClient(Configuration(host=os.environ["BASE"], access_token=token))).get_users()
assert users[0].login == "calvin"
