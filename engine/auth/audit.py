"""The audit trail as seen from the server: what the triggers are told, what happens at the door, the sealing of the trail."""

import logging
import threading
import time

from FlaskSimpleAuth import Flask, Response

from engine.db.reference import db
from engine.http.request import here, there
from engine.http.transaction import READS
from engine.metrics import counters
from engine.problem import Problem

log = logging.getLogger("stuff.audit")


def context() -> tuple[str, str, str]:
    """Login, request id and address: the triggers write them down with each change."""
    now = there()
    if now is None:
        return "", "", ""
    return now.user["login"] if now.user else "", now.request_id or "", now.remote_addr or ""


PERIOD = 60  # seconds
MOST = {"login": 10, "address": 100}  # refusals that a process writes to the trail in a period


class Refusals:
    """Bounds the rows that refused callers can add to the trail: beyond it they are counted in the metrics alone."""

    def __init__(self) -> None:
        self._lock, self._period = threading.Lock(), 0
        self._made: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """Begin a new period."""
        self._period = -1

    def event(self, login: str, address: str) -> str | None:
        """The event to write for one more refusal: REFUSED, for the first beyond the bound REFUSED_MORE, for others none."""
        with self._lock:
            if (period := int(time.monotonic() / PERIOD)) != self._period:
                self._period = period
                self._made.clear()
            made = {}
            for kind, name in (("login", login), ("address", address)):
                made[kind] = self._made[kind, name] = self._made.get((kind, name), 0) + 1
        beyond = max(made[kind] - most for kind, most in MOST.items())
        return "REFUSED" if beyond <= 0 else "REFUSED_MORE" if beyond == 1 else None


def event(name: str, login: str | None) -> None:
    """Write down an authentication event, whatever becomes of the request."""
    counters.count("stuff_auth_events_total", event=name)
    write(name, login)


def write(name: str, login: str | None) -> None:
    """Add an authentication event to the trail, in a transaction of its own."""
    _, request_id, address = context()
    db.add_event(event=name, login=login, request=request_id, address=address)


class Sealer:
    """A thread that seals the trail from time to time, begun by the first request that writes; one server at a time does it."""

    def __init__(self, period: float) -> None:
        self.period, self.batch, self._lock = period, 1000, threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

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
            sealed = number = db.seal_audit(most=self.batch)
            while number == self.batch:
                number = db.seal_audit(most=self.batch)
            if sealed:  # an anchor that is kept outside of the database, for audit-verify
                log.info("seal %(link)s:%(hash)s", db.get_seal())
        except Problem as problem:  # the database is away: later, then
            log.warning("not sealed: %s", problem.message)
        finally:
            db.release()


def end(response: Response) -> Response:
    """Write down a refusal, and begin to seal with the first request that writes."""
    request = here()
    extensions = request.app.extensions
    if response.status_code == 403:
        counters.count("stuff_auth_events_total", event="REFUSED")
        login, _, address = context()
        if login and (name := extensions["refusals"].event(login, address)):  # nobody is known where the transport is refused
            write(name, login)  # no trail, no answer that says more than that
    elif request.method not in READS and not (sealer := extensions["sealer"]).started:
        sealer.start()
    return response


def init_app(app: Flask) -> None:
    """Follow the requests."""
    db.follow(context)
    app.extensions["sealer"] = Sealer(app.config["AUDIT_SEAL"])
    app.extensions["refusals"] = Refusals()
