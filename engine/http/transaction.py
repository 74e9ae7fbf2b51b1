"""One unit of work for each request, begun before it, its sessions given back after it. The commit is the application's hook.

Where reads go to standbys, the answer to a write tells its WAL position, and the caller sends that back with its reads: by
itself if it keeps cookies, else as a header.
"""

import math
import re
from pathlib import Path

from FlaskSimpleAuth import Flask, Request, Response, request

from engine.db.database import DB
from engine.db.reference import db, refer
from engine.http.request import here
from engine.problem import Problem

READS = {"GET", "HEAD", "OPTIONS"}
HEADER = "Consistency-Token"  # of a write's answer, and of a later request
COOKIE = "consistency-token"
TOKEN = re.compile("[0-9]{1,18}")  # fits a BIGINT


def asked_position(request: Request) -> int:
    """The position that a request brings: of a client that has just written; 0 if none.

    :raises Problem: 400 for a header that never was a token; such a cookie is nobody's fault, and ignored.
    """
    header, cookie = request.headers.get(HEADER, "0"), request.cookies.get(COOKIE, "0")
    if not TOKEN.fullmatch(header):
        raise Problem(400, f"{HEADER} is not what the answer to a write said", "invalid_consistency_token")
    return max(int(header), int(cookie) if TOKEN.fullmatch(cookie) else 0)


def tell_position(response: Response, position: int) -> None:
    """Tell a client where its write ends; later than twice the bound, all reads are past it."""
    response.headers[HEADER] = str(position)
    response.set_cookie(
        COOKIE,
        str(position),
        max_age=math.ceil(2 * here().app.config["DATABASE_STALE"]),
        path=request.script_root or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )


def begin() -> None:
    """Open the unit of work: what only reads goes to the reading side."""
    db.open(here().method not in READS)


def connect_database(app: Flask) -> None:
    """Connect `db` to the configured databases, and each request to a unit of work."""
    conf = app.config
    settings = dict(conf["ANODB"])
    settings["queries"] = str(Path(app.root_path, settings["queries"]))
    database = DB(
        read=conf["DATABASE_READ"],
        size=conf["DATABASE_POOL"],
        timeout=conf["DATABASE_TIMEOUT"],
        read_timeout=conf["DATABASE_READ_TIMEOUT"],
        write_timeout=conf["DATABASE_WRITE_TIMEOUT"],
        pooler=conf["DATABASE_POOLER"],
        slow=conf["DATABASE_SLOW"],
        plans=conf["DATABASE_SLOW_PLAN"],
        stale=conf["DATABASE_STALE"],
        age=conf["DATABASE_MAX_AGE"],
        trace=conf["DATABASE_TRACE"],
        debug=app.debug,
        **settings,
    )
    refer(database)

    if database.bound:

        @app.before_request
        def after() -> None:
            database.after(asked_position(request))

    @app.teardown_request
    def release(_: BaseException | None) -> None:
        database.release()
