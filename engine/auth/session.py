"""Sessions: each log-in is one, known by a digest of its token, renewed by texts that are good once."""

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Any

from engine.auth import audit
from engine.auth.address import address
from engine.auth.tokens import Tokens
from engine.auth.user import digest
from engine.db.reference import db
from engine.http.request import here
from engine.problem import Problem

RENEWABLE = 30 * 86_400.0  # seconds in which a refresh text is good
AGENT = 200  # characters that are kept of a User-Agent


def begin(tokens: Tokens, user: dict[str, Any], renewable: bool) -> dict[str, Any]:
    """Log a user in.

    :param renewable: whether the session can be renewed.
    :returns: the token, when it expires, and the refresh text, None where there is none.
    """
    salt, text = secrets.token_hex(16), secrets.token_urlsafe(32) if renewable else None
    token, end = tokens.make(user, salt)
    db.add_session(
        uid=user["id"],
        epoch=user["epoch"],
        digest=digest(token),
        salt=salt,
        seconds=RENEWABLE if renewable else tokens.delay,
        refresh=text and digest(text),
        address=address(),
        agent=here().environ.get("HTTP_USER_AGENT", "").encode("latin1").decode(errors="replace")[:AGENT],
        login=user["login"],
        request=audit.context()[1],
    )
    return _told(token, end, text)


def renew(tokens: Tokens, text: str) -> dict[str, Any]:
    """Another token, and another refresh text, for the session of a refresh text.

    :raises Problem: 401 if it renews none; one that comes again ends the session, as somebody else has it.
    """
    found = db.get_refresh(digest=digest(text))
    who = found and db.get_users_uid(uid=found["uid"])
    user = who and db.get_auth(login=who["login"])
    if not user or user["epoch"] != found["epoch"]:
        raise Problem(401, "invalid refresh text", "invalid_refresh")
    salt, new = secrets.token_hex(16), secrets.token_urlsafe(32)
    token, end = tokens.make(user, salt)
    names = {"old": digest(text), "new": digest(new), "digest": digest(token)}
    if found["spent"] or db.renew_session(**names, salt=salt, seconds=RENEWABLE) is None:
        db.rollback()  # an UPDATE that waited and then found the text spent keeps its lock, which the next one would wait for
        db.kill_session(sid=found["sid"], login=user["login"], request=audit.context()[1], address=address())
        raise Problem(401, "invalid refresh text", "invalid_refresh")
    return _told(token, end, new)


def _told(token: str, end: float, text: str | None) -> dict[str, Any]:
    return {"token": token, "expires": datetime.fromtimestamp(int(end), UTC), "refresh": text}


class Seen:
    """The sessions and keys that requests came with since the last time they were written, by a thread: no request waits.

    :param period: seconds between two times; 0: never by itself.
    """

    def __init__(self, period: float) -> None:
        self.period, self._lock = period, threading.Lock()
        self._noted: tuple[set[int], set[int]] = set(), set()
        self._thread: threading.Thread | None = None

    def note(self, user: dict[str, Any]) -> None:
        """A request came with a user's session or key."""
        if "sid" in user:
            self._noted[0].add(user["sid"])
        else:
            self._noted[1].add(user["kid"])
        if self._thread is None and self.period:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="seen", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self.period:
            time.sleep(self.period)
            self.write()

    def write(self) -> None:
        """Write when sessions were seen and keys used, and forget sessions that are over."""
        (sids, kids), self._noted = self._noted, (set(), set())
        db.open(True)
        try:
            db.set_sessions_seen(sids="{" + ",".join(map(str, sids)) + "}")
            db.set_keys_used(kids="{" + ",".join(map(str, kids)) + "}")
            db.del_sessions_old()
        except Problem as problem:  # the database is away: later, then
            self._noted = self._noted[0] | sids, self._noted[1] | kids
            audit.log.warning("sessions seen are not written: %s", problem.message)
        finally:
            db.release()
