"""The server about itself: what it is, whether it lives, whether it is ready."""

import platform
from contextlib import suppress

from flask import current_app
from FlaskSimpleAuth import Blueprint, Response

from engine.auth import auth
from engine.db.reference import db
from engine.http.wire import declare, url
from engine.metrics import counters
from engine.problem import Problem
from engine.types import Live, Ready, Root, Version

system = Blueprint("system", __name__)


# GET /: where to begin
@system.get("/", authorize="OPEN")
@declare(page="/docs", database=False)
def get_root() -> Root:
    """Name and version of the server, and links to its documents and lists.

    A browser is sent to /docs.
    """
    links = {name: url(path) for name, path in current_app.extensions["contract"].links.items()}
    return {"name": current_app.name, "version": current_app.config["VERSION"], "links": links}


# GET /version: what runs here
@system.get("/version", authorize="OPEN")
def get_version() -> Version:
    """Tell versions, the time, and who is asking.

    The version of the schema and the time are the database's; the user, with key and groups, is null unless valid
    credentials came.
    """
    return {"app": current_app.name, "version": current_app.config["VERSION"], **auth.standing()} | db.get_now()


# GET /live: is the process alive
@system.get("/live", authorize="OPEN")
@declare(database=False)
def get_live() -> Live:
    """Answer without asking anybody."""
    return {"live": True}


# GET /ready: may requests be sent here
@system.get("/ready", authorize="OPEN")
def get_ready() -> Ready:
    """Check the database, a session of the pool, and the version of the schema."""
    found, needed = db.get_now()["schema"], current_app.config["SCHEMA"]
    if found < needed:
        raise Problem(503, f"schema version {needed} is needed, {found} was found", "schema_outdated")
    return {"ready": True, "schema": found}


# GET /metrics: for Prometheus
@system.get("/metrics", authorize="ADMIN", auth=["scraper", "token", "basic"])
@declare(produces=("text/plain; version=0.0.4",))
def get_metrics() -> Response:
    """Tell the counters of all processes of this server.

    In Prometheus's text format, for the scraper's own key as well.
    """
    versions = {"version": current_app.config["VERSION"], "schema": current_app.config["SCHEMA"]}
    measured = {}
    with suppress(Problem):  # the database is away: what this server counted is shown nevertheless
        measured["stuff_changes_lag_seconds"] = db.get_trail_lag()
        for row in db.list_sequences():
            measured[f'stuff_sequence_used_ratio{{sequence="{row["sequence"]}"}}'] = row["used"]
    text = counters.text(measured, **versions, python=platform.python_version())
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")
