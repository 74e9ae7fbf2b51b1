"""A leaner request path by private names of libraries, and nothing else: without it all works, slower.

It serves the versions that tests/test_fast.py has proven it for. With `FAST=0` in the environment, or other versions, plain
serves.
"""

import logging
import os
from importlib.metadata import version
from typing import Any

PROVEN = {"flask": "3.1.", "werkzeug": "3.1.", "FlaskSimpleAuth": "36.", "psycopg": "3.3."}

log = logging.getLogger("engine.fast")


def foreign() -> list[str]:
    """The installed libraries whose versions are not proven for, as `name version`."""
    found = {name: version(name) for name in PROVEN}
    return [f"{name} {found[name]}" for name, proven in PROVEN.items() if not f"{found[name]}.".startswith(proven)]


def flask_class() -> Any:
    """The class of applications: the leaner one, unless it is not wanted or not proven for what is installed."""
    from engine.http import flask

    if os.environ.get("FAST", "1") == "0":
        return flask.Flask
    if unproven := foreign():
        log.warning("not proven for %s: served without engine/fast", ", ".join(unproven))
        return flask.Flask
    from engine.fast import flask as fast
    from engine.fast import libpq

    libpq.install()
    return fast.Flask
