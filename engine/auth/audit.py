"""The audit trail as seen from the server: what the triggers are told, what happens at the door, the sealing of the trail."""

import logging
import threading
import time

from FlaskSimpleAuth import Flask, Response

from engine import errors
from engine.db.reference import db
from engine.fast.lean import here
from engine.http.transaction import READS
from engine.metrics import counters

log = logging.getLogger("stuff.audit")


def context() -> tuple[str, str, str]:
    """Login, request id and address: the triggers write them down with each change."""
    now = here(None)
    if now is None:
        return "", "", ""
    own = vars(now.g)
    user = own.get("user")
    return user["login"] if user else "", own.get("request_id", ""), now.request.remote_addr or ""


def event(name: str, login: str | None) -> None:
    """Write down what was tried at the door, whatever becomes of the request."""
    counters.count("stuff_auth_events_total", event=name)
    _, request_id, address = context()
    db.add_event(event=name, login=login, request=request_id, address=address)


class Sealer:
    """A thread that seals the trail from time to time, begun by the first request that writes; one server at a time does it."""

    def __init__(self, period: float) -> None:
        self.period, self.batch, self._lock = period, 1000, threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if self.period and not self._thread:
                self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self.period:
            time.sleep(self.period)
            self.seal()

    def seal(self) -> None:
        """Seal all that can be."""
        db.open(True)  # what was noted of the last time is over
        try:
            while db.seal_audit(most=self.batch) == self.batch:
                pass
        except errors.Problem as problem:  # the database is away: later, then
            log.warning("not sealed: %s", problem.message)


def init_app(app: Flask) -> None:
    """Follow the requests."""
    db.follow(context)
    sealer = app.extensions["sealer"] = Sealer(app.config["AUDIT_SEAL"])

    @app.after_request
    def audit_end(response: Response) -> Response:
        if response._status_code == 403:
            event("REFUSED", context()[0])  # no trail, no answer that says more than that
        elif not sealer._thread and here().request.method not in READS:
            sealer.start()
        return response
