"""The application put together: its name, its settings, its routes. Imported by WSGI servers and tests alone."""

import os
import tomllib
from pathlib import Path

import database
from engine.application import create
from routes.account import account
from routes.compute import compute
from routes.owned import owned
from routes.stuff import stuff
from routes.users import users

FOLDER = Path(__file__).parent

config = {
    "VERSION": tomllib.loads(Path(FOLDER, "pyproject.toml").read_text())["project"]["version"]
    + os.environ.get("APP_BUILD", ""),  # which release of it, where deploy/wsgi.py says so
    # the version of the schema that the queries need
    "SCHEMA": max(int(path.name[:3]) for path in Path(FOLDER, "migrations").glob("[0-9]*.sql")),
    # our words are `authorize` and `auth` (decision 005), which FlaskSimpleAuth now calls `authz` and `authn`
    "FSA_ALLOW_DEPRECATION": True,
    "FSA_REALM": "stuff",
    "GROUPS": [],
    "SESSION_SEEN": 60.0,
    "LOCAL": False,  # an instance is a deployed one unless its configuration says otherwise
    "PASSWORD_COST": 12,
    "PASSWORD_LENGTH": 8,
    "PASSWORD_COMMON": str(Path(FOLDER, "engine", "auth", "common-passwords.txt")),
    "PASSWORD_MEMORY": 300.0,
    "LOGIN_PERIOD": 60,
    "LOGIN_LIMITS": {},
    "PASSWORD_HASHES": 2,
    "REDIS_URL": None,
    "REDIS_TIMEOUT": 0.25,
    "REDIS_SENTINELS": [],
    "REDIS_SENTINEL_PASSWORD": None,
    "AUDIT_SEAL": 5.0,
    "CORS_ORIGINS": [],
    "PROXIES": 0,
    "CHANGES_WAITERS": 2,
    "OWNERS": {"owned": "owner", "utilisateur": "id"},  # whose row it is, by table: the column with the user's id
}

app = create("stuff", FOLDER, config, database.end, (account, users, stuff, owned, compute))
