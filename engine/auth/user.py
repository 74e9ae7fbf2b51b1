"""The user's row that authentication reads, as the request and the process keep it."""

import hashlib
import time
from typing import Any

from engine.db.assumption import Assumption
from engine.db.reference import db
from engine.http.request import here

MOST = 2_000  # tokens, and keys, that a process remembers, at a kilobyte each: forgetting costs a round trip


def digest(text: str) -> str:
    """How a token, a key or a refresh text is kept; all have more bits than can be guessed, so that no salt is needed."""
    return hashlib.sha256(text.encode()).hexdigest()


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


class Memory:
    """Credentials that were right, and whose they are: they are taken for good until the row comes.

    :param query: what reads the row that they rest on.
    """

    def __init__(self, query: str) -> None:
        self.query = query
        self.known: dict[str, tuple[dict[str, Any], float, Assumption]] = {}

    def recall(self, text: str) -> dict[str, Any] | None:
        """The user of credentials that are remembered and have not expired."""
        known = self.known.get(text)
        if known is None or known[1] <= time.time():
            return None
        assume(known[2])
        return known[0]

    def keep(self, text: str, row: dict[str, Any], end: float, **named: Any) -> dict[str, Any]:
        """Remember credentials whose row was read just now.

        :param end: when they expire, in the seconds of `time.time()`.
        :param named: parameters of the query.
        :returns: the user.
        """
        if len(self.known) >= MOST:
            self.known.clear()
        user = shown(row)
        assumption = db.assumption(self.query, lambda found: self._still(text, user, found), **named)
        self.known[text] = user, end, assumption
        assume(assumption, read=True)
        return user

    def _still(self, text: str, user: dict[str, Any], row: dict[str, Any] | None) -> bool:
        same = row is not None and shown(row) == user
        if not same:
            self.known.pop(text, None)
        return same
