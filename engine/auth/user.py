"""The user's row that authentication reads, as the request keeps it."""

from typing import Any

from engine.db.assumption import Assumption
from engine.db.reference import db
from engine.http.request import here


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A user's row without what is secret in it."""
    return {name: value for name, value in row.items() if name not in ("pword", "salt")}


def known(user: dict[str, Any]) -> str:
    here().user = user
    login: str = user["login"]
    return login


def caller() -> dict[str, Any]:
    """The row of who calls; there is one wherever a rule asks for a caller."""
    user = here().user
    assert user is not None  # noqa: S101
    return user


def assume(assumption: Assumption, read: bool = False) -> None:
    """Assume the caller's row unchanged, see `db.assume`; `auth.check_caller` does once more."""
    here().assumption = assumption
    db.assume(assumption, read=read)
