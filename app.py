"""The application put together: its name, its routes, whose rows are whose. Imported by WSGI servers and tests alone."""

from pathlib import Path

import database
from engine.application import create
from routes.account import account
from routes.compute import compute
from routes.owned import owned
from routes.stuff import stuff
from routes.users import users

app = create(
    "stuff",
    Path(__file__).parent,
    database.end,
    (account, users, stuff, owned, compute),
    OWNERS={"owned": "owner", "utilisateur": "id"},  # whose row it is, by table: the column with the user's id
)
