"""Groups by configuration: each name of GROUPS is a rule, `authorize="NAME"`, read off the caller's row."""

import re
from collections.abc import Callable
from functools import partial

from flask import current_app
from FlaskSimpleAuth import err

from engine.auth.rules import is_admin
from engine.auth.user import caller

NAME = re.compile("[A-Z][A-Z0-9_]{0,63}")
WORDS = {"ADMIN", "ALL", "ANY", "AUTH", "CLOSE", "NONE", "OPEN"}  # that rules have already


def in_group(name: str, _: str) -> bool:
    """Whether the caller is in a group."""
    return name in caller()["groups"]


def checks(names: list[str]) -> dict[str, Callable[[str], bool]]:
    """The rules of groups, by name; ADMIN is one always.

    :raises SystemExit: a name is none, or means something else in a rule.
    """
    if bad := [name for name in names if not NAME.fullmatch(name) or name in WORDS]:
        raise SystemExit(f"refusing to start:\n- GROUPS names what can be no group: {' '.join(bad)}")
    return {"ADMIN": is_admin, **{name: partial(in_group, name) for name in names}}


def known(name: str) -> str:
    """The name of a group that the configuration names.

    :raises ErrorResponse: 404, it names none.
    """
    return name if name in current_app.config["GROUPS"] or name == "ADMIN" else err("object not found", 404)
