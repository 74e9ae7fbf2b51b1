"""What changed, in the order of commits: for whoever follows the rows that they may read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from flask import current_app
from FlaskSimpleAuth import Blueprint

from engine.auth import auth
from engine.auth.user import caller
from engine.db.reference import db
from engine.http.request import here
from engine.http.wire import page
from engine.types import Limit, Name, Place, RowChange, Wait

changes = Blueprint("changes", __name__)
STEP = 0.25  # seconds between two looks


class Waiters:
    """Bounds the threads of this process that wait, so that others are left for those that have something to do."""

    def __init__(self) -> None:
        self._lock, self.number = threading.Lock(), 0

    @contextmanager
    def enter(self, most: int) -> Iterator[bool]:
        """Take one of so many places: whether there was one."""
        with self._lock:
            entered = self.number < most
            self.number += entered
        try:
            yield entered
        finally:
            with self._lock:
                self.number -= entered


waiters = Waiters()


def follow(after: Place, wait: int, **which: Any) -> dict[str, Any]:
    """The changes after a place, once there are some.

    :param wait: seconds to wait for them; a caller whose rights change meanwhile is judged anew.
    """
    row = after.checked(db.list_changes(**after.parts, **which))
    began, bodies = monotonic(), current_app.extensions["bodies"]
    with waiters.enter(current_app.config["CHANGES_WAITERS"]) as entered:
        while entered and not row["items"] and monotonic() - began < wait:
            if not row["more"]:
                if waiters.number + bodies.reading > bodies.readers:  # all others wait as well
                    break
                db.release()
                sleep(STEP)
                auth.check_caller()
            row = db.list_changes(**Place.read(row), **which)
    here().started += monotonic() - began  # a wait that was asked for is not slowness
    return row


# GET /changes: what was committed since
@changes.get("/changes", authorize="AUTH")
def get_changes(
    table: Name | None = None, after: Place = Place(), limit: Limit = Limit(100), wait: Wait | None = None
) -> list[RowChange]:
    """List what was committed since, each change once, none of them late.

    Administrators see all, others the rows that they own. Link rel="next" is always there: its `after` is where to go on, also
    from an empty page. With `wait` an answer that would be empty is held back so many seconds, while a thread can be spared.

    410: the place of `after` is no more, a restore undid it.
    """
    which = {"uid": None if (user := caller())["isadmin"] else user["id"], "owners": json.dumps(current_app.config["OWNERS"])}
    return page(follow(after.of("changes"), wait or 0, tab=table, size=limit, **which))
