"""The application put together: the one place that knows the order of hooks."""

import gc
import os
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Blueprint
from werkzeug.middleware.proxy_fix import ProxyFix

from engine import commands, settings
from engine.auth import audit, auth
from engine.fast import flask_class
from engine.http import bodies, cors, errors, idempotency, transaction, wire
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


def create(name: str, folder: Path, end: Callable[[Any], Any], routes: Iterable[Blueprint], **more: Any) -> Any:
    """An application with all that every service has.

    :param name: what it calls itself: in tokens, metrics, logs.
    :param folder: where its files are, pyproject.toml with its version and migrations/ among them.
    :param end: the hook that ends the transaction: it is given each answer when it is complete, and gives it back.
    :param routes: its own blueprints.
    :param more: values of its configuration that no file may change.
    """
    app = flask_class()(name, root_path=str(folder), static_folder=None)
    app.config.update(
        VERSION=tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        + os.environ.get("APP_BUILD", ""),  # which release of it, where deploy/wsgi.py says so
        # the version of the schema that the queries need
        SCHEMA=max(int(path.name[:3]) for path in folder.glob("migrations/[0-9]*.sql")),
        # the words `authorize` and `auth` (decision 005), which FlaskSimpleAuth now calls `authz` and `authn`
        FSA_ALLOW_DEPRECATION=True,
        **more,
    )
    settings.load(app)
    openapi.init_app(app)  # first: it watches the routes that are registered
    errors.init_app(app)
    bodies.init_app(app)
    if hops := app.config["TRUSTED_PROXIES"]:  # they tell the client's address and scheme: others are not believed
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # bodies are counted by this address
    observe.init_app(app)
    cors.init_app(app)
    wire.init_app(app)
    transaction.connect_database(app)
    idempotency.init_app(app)
    audit.init_app(app)
    auth.init_app(app)
    commands.init_app(app)
    app.first = [transaction.begin, observe.start]
    # what may change the answer comes before what tells it: a commit that fails is a 503 in the log
    app.last = [audit.end, end, wire.finish, *([cors.allow] if app.config["CORS_ORIGINS"] else []), observe.end]
    for blueprint in (system, sessions, keys, totp, groups, *routes, trail, changes, documents):
        app.register_blueprint(blueprint)
    keep()
    return app


def keep() -> None:
    """Keep what was loaded from the garbage collector, and have it come by seldom: requests leave next to nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 2, 2)
