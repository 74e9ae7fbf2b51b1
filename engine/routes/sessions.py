"""One's own log-ins: to renew one, to list them, to end one."""

from FlaskSimpleAuth import Blueprint

from engine.auth import auth
from engine.http.wire import Created, changed, created, declare, page
from engine.types import Cursor, Limit, LogIn, LongKey, Secret, Session

sessions = Blueprint("sessions", __name__)


# POST /refresh: renew a session
@sessions.post("/refresh", authorize="OPEN")
@declare(stored=False, located=False, limit="30/minute")
def post_refresh(refresh: Secret) -> Created[LogIn]:
    """Get another token, and another refresh text, for a session.

    401: the text renews none; one that comes again ends its session.
    """
    return created(auth.renew(refresh))


# GET /sessions: one's own
@sessions.get("/sessions", authorize="AUTH")
@declare(account=True)
def get_sessions(limit: Limit = Limit(100), after: Cursor = Cursor()) -> list[Session]:
    """List one's own sessions, the newest first."""
    return page(auth.list_sessions(after, limit))


# DELETE /sessions/<sid>: end it
@sessions.delete("/sessions/<sid>", authorize="AUTH")
@declare(account=True)
def delete_sessions_sid(sid: LongKey) -> None:
    """End one of one's own sessions: its token and what renews it are dead at once."""
    return changed(auth.end_session(sid))
