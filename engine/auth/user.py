"""The user's row that authentication reads, as the request keeps it."""

from typing import Any

from engine.fast.lean import here


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A user's row without the hash."""
    return {name: value for name, value in row.items() if name != "pword"}


def known(user: dict[str, Any]) -> str:
    here().g.user = user
    login: str = user["login"]
    return login
