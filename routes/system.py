"""The server about itself: what it is, whether it lives, whether it is ready."""

from flask import current_app
from FlaskSimpleAuth import Blueprint

import auth
import errors
from database import db
from model import Live, Ready, Version

system = Blueprint("system", __name__)


# GET /version: what runs here
@system.get("/version", authorize="OPEN")
def get_version() -> Version:
    """Name and version of the server, version of its schema, the database's time, and who you are if you said so."""
    return {"app": "stuff", "version": current_app.config["VERSION"], "user": auth.caller()} | db.get_now()


# GET /live: is the process alive
@system.get("/live", authorize="OPEN")
def get_live() -> Live:
    """Answer without asking anybody."""
    return {"live": True}


# GET /ready: may requests be sent here
@system.get("/ready", authorize="OPEN")
def get_ready() -> Ready:
    """Check the database, a session of the pool, and that the schema is the one that this version needs."""
    found, needed = db.get_now()["schema"], current_app.config["SCHEMA"]
    if found < needed:
        raise errors.Problem(503, f"schema version {needed} is needed, {found} was found", "schema_outdated")
    return {"ready": True, "schema": found}
