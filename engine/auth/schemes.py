"""The ways to say who one is, as FlaskSimpleAuth's hooks want them."""

import base64
import hmac
from typing import Any

from FlaskSimpleAuth import ErrorResponse, Request, err

from engine.auth.keys import Keys, check_scope
from engine.auth.passwords import Passwords
from engine.auth.session import Seen
from engine.auth.tokens import Tokens
from engine.auth.totp import Totp
from engine.auth.user import known
from engine.http.request import here
from engine.types import UNFIT


class Auth:
    """The two together, as FlaskSimpleAuth's hooks want them."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.passwords, self.tokens, self.seen = Passwords(conf), Tokens(conf), Seen(conf["SESSION_SEEN"])
        self.keys = Keys(conf["FSA_REALM"])
        self.totp = Totp(conf, self.passwords.count)
        self.key = (conf["METRICS_KEY"] or "").encode()

    def by_token(self, _: Any, request: Request) -> str:
        """Scheme `token`: Authorization: Bearer TOKEN (RFC 6750), or a key."""
        token = _credentials("bearer")
        if token is None:
            raise ErrorResponse("missing token", 401)
        is_key = token.startswith(self.keys.prefix)
        user = self.keys.check(token) if is_key else self.tokens.check(token)
        login = known(user)
        if is_key:
            check_scope(user)
        self.seen.note(user)
        return login

    def by_basic(self, _: Any, request: Request) -> str | None:
        """Scheme `basic`: Authorization: Basic LOGIN:PASSWORD in base 64 (RFC 7617)."""
        encoded = _credentials("basic")
        if encoded is None:
            return None if request.headers.get("Authorization") else err("missing authorization header", 401)
        try:
            raw = base64.b64decode(encoded, validate=True)
            login, password = _text(raw).split(":", 1)
        except ValueError:
            err("malformed authorization header", 401)
        return self._by_password(login, password, request.environ.get("HTTP_X_OTP"))

    def by_scraper(self, _: Any, request: Request) -> str:
        """Scheme `scraper`: Authorization: Bearer KEY, where the key is METRICS_KEY; no user, and for the metrics alone."""
        given = (_credentials("bearer") or "").encode()
        if not self.key or not hmac.compare_digest(given, self.key):
            err("missing token", 401)
        here().user = {"id": 0, "login": "scraper", "isadmin": True}
        return "scraper"

    def by_form(self, _: Any, request: Request) -> str:
        """Scheme `form`: parameters `login` and `pword`."""
        given = request.get_json() if request.is_json else {**request.args, **request.form}
        login, password, otp = given.get("login"), given.get("pword"), str(given.get("otp") or "")
        if not isinstance(login, str) or not isinstance(password, str):
            raise ErrorResponse("missing login and pword", 401)
        if faults := [name for name, text in (("login", login), ("pword", password), ("otp", otp)) if UNFIT.search(text)]:
            why = "contains a character that is not allowed (NUL or a lone surrogate)"
            raise ErrorResponse("\n".join(f'error on parameter "{name}": {why}' for name in faults), 400)
        return self._by_password(login, password, otp or request.environ.get("HTTP_X_OTP"))

    def _by_password(self, login: str, password: str, otp: str | None) -> str:
        user = self.passwords.check(login, password)
        if user["otp"]:
            self.totp.check(user, otp)
        return known(user)


def _credentials(scheme: str) -> str | None:
    """What follows a scheme, whatever its case, in Authorization."""
    kind, _, credentials = here().environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # a token pasted as the JSON text that /login gave is still quoted; no quote belongs to a token or to base 64
    return credentials.strip().strip('"') if kind.lower() == scheme else None


def _text(raw: bytes) -> str:
    """Login and password as text: UTF-8, or what clients send that know no charset (RFC 7617 2.1), Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin1")
