"""Authentication and authorization as routes, app and commands use them; passwords, tokens, schemes and rules stand beside.

One policy: nothing about a user outlives a change. Each request that brings credentials reads its user anew, by one @primary
query, and everything else is computed from that row. A token is signed for the user's epoch, which another
password, another role, and a log-out advance; a password that was verified is remembered with the hash that it matched.

Credentials that this process has seen before are taken for good until that row comes, in the round trip of what the request
reads first, and before it writes; where the row is another by then, the request runs again, from the beginning.
"""

import os
from pathlib import Path
from typing import Any, cast

from flask import current_app, request
from FlaskSimpleAuth import Flask

from engine.auth import audit, groups, rates, session, user
from engine.auth.passwords import Passwords
from engine.auth.rules import is_user, is_user_or_admin
from engine.auth.schemes import Auth
from engine.db.reference import db
from engine.http.request import here
from engine.metrics import counters
from engine.problem import Problem
from engine.types import Cursor, Password, Scopes


def caller() -> str | None:
    """The login on an open route, if good credentials came."""
    if "Authorization" not in request.headers:
        return None
    try:
        return cast(str | None, cast(Any, current_app).get_user(required=False))
    except Problem as problem:  # a key without the scope of this route
        if problem.status != 403:
            raise
        return None


def standing() -> dict[str, Any]:
    """Login, key and groups of the caller of an open route; without good credentials None, None and no group."""
    login = caller()
    if login is None:
        return {"user": None, "id": None, "groups": []}
    checks = current_app.config["FSA_GROUP_CHECK"]
    return {"user": login, "id": user.caller()["id"], "groups": [group for group, check in checks.items() if check(login)]}


def check_caller() -> None:
    """Find out whether the caller is still whom the server took him for.

    :raises Problem: he is not, run the request again.
    """
    db.assume(here().assumption)
    db.verify()


def log_in(renewable: bool = False) -> dict[str, Any]:
    """A session for the caller: its token, when that expires, and what renews it, see `session.begin`."""
    counters.count("stuff_auth_events_total", event="LOGIN")
    return session.begin(_auth().tokens, user.caller(), renewable)


def token() -> str:
    """The token of a session for the caller."""
    return cast(str, log_in()["token"])


def renew(text: str) -> dict[str, Any]:
    """The session that a refresh text renews, see `session.renew`."""
    return session.renew(_auth().tokens, text)


def list_sessions(after: Cursor, size: int) -> dict[str, Any]:
    """A page of the caller's sessions."""
    row = user.caller()
    names = {"uid": row["id"], "epoch": row["epoch"], "current": row.get("sid")}
    return cast(dict[str, Any], db.list_sessions(**names, after=after.of("-sid").number, size=size))


def end_session(sid: int) -> int | None:
    """End a session of the caller: its key, None if there is no such one."""
    return cast(int | None, db.del_session(uid=user.caller()["id"], sid=sid))


def revoke(login: str) -> None:
    """Every token issued to this user so far is dead."""
    audit.event("LOGOUT", login)  # first: with the transaction begun, it would take a second session
    db.set_epoch(login=login)


def list_keys(after: Cursor, size: int) -> dict[str, Any]:
    """A page of the caller's keys."""
    return cast(dict[str, Any], db.list_keys(uid=user.caller()["id"], after=after.of("kid").number, size=size))


def add_key(note: str, scopes: Scopes, days: int) -> dict[str, Any]:
    """A new key of the caller, see `Keys.add`."""
    return _auth().keys.add(user.caller(), note, scopes, days)


def del_key(kid: int) -> int | None:
    """Remove a key of the caller: its number, None if there is no such one."""
    return cast(int | None, db.del_key(uid=user.caller()["id"], kid=kid))


def begin_totp() -> dict[str, str]:
    """A second factor for the caller, see `Totp.begin`."""
    return _auth().totp.begin(user.caller())


def confirm_totp(otp: str) -> dict[str, list[str]]:
    """Put the caller's second factor in force, see `Totp.confirm`."""
    return _auth().totp.confirm(user.caller(), otp)


def end_totp(otp: str) -> None:
    """Take the caller's second factor out of force, see `Totp.end`."""
    _auth().totp.end(user.caller(), otp)


def hash_password(password: str, field: str = "pword", login: str | None = None) -> str:
    """The hash of a new password for the parameter `field`, refused with 400 if it is not fit, as if it equals `login`."""
    return passwords().hash(password, field, login)


def check_password(login: str, password: str, field: str) -> None:
    """Check the old password once more.

    :raises Problem: 400 if it is not right.
    """
    with passwords().place:
        right = passwords().verify(password, db.get_auth(login=login)["pword"])[0]
    if not right:
        raise Problem(400, "the old password is not right", "wrong_password", field)


def _auth() -> Auth:
    return cast(Auth, current_app.extensions["auth"])


def passwords() -> Passwords:
    """The passwords of the application at hand."""
    return _auth().passwords


def local_secret(path: Path) -> str:
    """A secret of a local instance: made at its first start, then kept in a file that only its user reads."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(0o600)
    draft.write_text(os.urandom(32).hex())
    try:
        os.link(draft, path)  # never half-written; the first of several workers wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()


def init_app(app: Flask) -> None:
    """Tell FlaskSimpleAuth who is who."""
    conf = app.config
    if conf["LOCAL"] and not conf["FSA_TOKEN_SECRET"]:
        conf["FSA_TOKEN_SECRET"] = local_secret(Path(app.root_path, ".local", "token.secret"))
    if conf["LOCAL"] and not conf["TOTP_KEY"]:
        conf["TOTP_KEY"] = local_secret(Path(app.root_path, ".local", "totp.key"))
    auth = app.extensions["auth"] = Auth(conf)
    Password.openapi = {**Password.openapi, "minLength": conf["PASSWORD_LENGTH"]}  # the document says what is asked of new ones
    rates.init_app(app)
    conf.setdefault("FSA_AUTH", ["token", "basic", "form", "scraper", "none"])
    conf.update(
        FSA_AUTH_DEFAULT=["token", "basic", "none"],
        FSA_AUTHENTICATION={"token": auth.by_token, "basic": auth.by_basic, "form": auth.by_form, "scraper": auth.by_scraper},
        FSA_GROUP_CHECK=groups.checks(conf["GROUPS"]),
        FSA_OBJECT_PERMS={"user": is_user, "account": is_user_or_admin},
        FSA_CACHE="none",  # what it remembers would outlive changes
        FSA_PASSWORD_SCHEME=None,  # passwords are ours
    )
