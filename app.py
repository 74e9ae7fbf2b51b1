"""The application: configuration, each room's `init_app` in order, the routes. Imported by WSGI servers and tests alone."""

import gc
import os
import tomllib
from pathlib import Path

from werkzeug.middleware.proxy_fix import ProxyFix

import database
from engine import commands
from engine.auth import audit, auth
from engine.fast import libpq
from engine.http import bodies, cors, errors, idempotency, wire
from engine.observe import observe
from engine.openapi import openapi
from engine.routes.audit import trail
from engine.routes.changes import changes
from engine.routes.documents import documents
from engine.routes.groups import groups
from engine.routes.keys import keys
from engine.routes.sessions import sessions
from engine.routes.system import system
from engine.routes.totp import totp
from routes.account import account
from routes.compute import compute
from routes.owned import owned
from routes.stuff import stuff
from routes.users import users

app = wire.Flask("stuff", root_path=str(Path(__file__).parent), static_folder=None)

app.config.update(
    VERSION=tomllib.loads(Path(app.root_path, "pyproject.toml").read_text())["project"]["version"]
    + os.environ.get("APP_BUILD", ""),  # which release of it, where deploy/wsgi.py says so
    # the version of the schema that the queries need
    SCHEMA=max(int(path.name[:3]) for path in Path(app.root_path, "migrations").glob("[0-9]*.sql")),
    # our words are `authorize` and `auth` (decision 005), which FlaskSimpleAuth now calls `authz` and `authn`
    FSA_ALLOW_DEPRECATION=True,
    FSA_REALM="stuff",
    GROUPS=[],
    SESSION_SEEN=60.0,
    TOTP_KEY=None,
    LOCAL=False,  # an instance is a deployed one unless its configuration says otherwise
    PASSWORD_COST=12,
    PASSWORD_LENGTH=8,
    PASSWORD_COMMON=str(Path(app.root_path, "engine", "auth", "common-passwords.txt")),
    PASSWORD_MEMORY=300.0,
    LOGIN_PERIOD=60,
    LOGIN_LIMITS={},
    PASSWORD_HASHES=2,
    REDIS_URL=None,
    REDIS_TIMEOUT=0.25,
    REDIS_SENTINELS=[],
    REDIS_SENTINEL_PASSWORD=None,
    AUDIT_SEAL=5.0,
    CORS_ORIGINS=[],
    PROXIES=0,
    CHANGES_WAITERS=2,
    OWNERS={"owned": "owner", "utilisateur": "id"},  # whose row it is, by table: the column with the user's id, for /changes
)
app.config.from_envvar("APP_CONFIG")

libpq.install()
openapi.init_app(app)
# hooks after a request run backwards: the first registered has the last word
errors.init_app(app)
bodies.init_app(app)
if hops := app.config["PROXIES"]:  # the client's address and scheme as so many proxies of ours say: others are not believed
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # bodies are counted by this address
observe.init_app(app)
cors.init_app(app)
wire.init_app(app)
database.init_app(app)
idempotency.init_app(app)
audit.init_app(app)
auth.init_app(app)
commands.init_app(app)

for blueprint in (system, account, sessions, keys, totp, users, groups, stuff, owned, compute, trail, changes, documents):
    app.register_blueprint(blueprint)

# what was loaded stays, so the collector need not look at it again; and as requests leave next to nothing, it comes by seldom
gc.collect()
gc.freeze()
gc.set_threshold(2_000, 2, 2)
