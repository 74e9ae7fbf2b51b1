"""Who is calling, and may they: passwords, tokens, and the checks behind `authorize=`. Imported by app, routes and commands.

One policy: nothing about a user outlives a change. Each request that brings credentials reads its user anew, by one @primary
query, and everything else is computed from that row. A token is signed for the user's epoch, which another
password, another role, and a log-out advance; a password that was verified is remembered with the hash that it matched.

Credentials that this process has seen before are taken for good until that row comes, in the round trip of what the request
reads first, and before it writes; where the row is another by then, the request runs again, from the beginning.
"""

import base64
import calendar
import hashlib
import hmac
import ipaddress
import os
import re
import string
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import quote, unquote, urlsplit

import jwt
from cachetools import TTLCache
from flask import current_app, g, request
from FlaskSimpleAuth import ErrorResponse, Flask, Request, err
from passlib.context import CryptContext

from engine.auth import audit
from engine.auth.attempts import Attempts
from engine.auth.hashing import Place
from engine.db.reference import db
from engine.fast.lean import here
from engine.metrics import counters
from engine.problem import Problem
from engine.types import UNFIT, Login

MAX_BYTES = 72  # of a password: bcrypt looks no further
PASSWORDS, TOKENS = 10_000, 2_000  # that a process remembers, at a kilobyte each: forgetting costs a hash, or a round trip
# what stands for itself in a token, as it is in a header; the rest comes as in a URL
PLAIN = string.punctuation.replace(":", "").replace("%", "")
# attempts at a password, and hashes of new ones, that are let through in a period; a local instance, which is tried out by
# systematic tests, lets through LENIENT times as many
LIMITS, LENIENT = {"pair": 5, "address": 50, "login": 100, "hash": 60}, 20
# IPv4 addresses as IPv6 ones: mapped (RFC 4291 2.5.5.2) and behind NAT64 (RFC 6052); the last 32 bits are the address
EMBEDDED = [ipaddress.IPv6Network(net) for net in ("::ffff:0:0/96", "64:ff9b::/96")]
OTHERS = ["pbkdf2_sha256", "pbkdf2_sha512", "sha512_crypt", "sha256_crypt"]  # hashes that are read, then replaced


class Passwords:
    """Hashes, their verification, and the short memory that spares Basic authentication a hash at each request."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.local, self.length = conf["LOCAL"], conf["PASSWORD_LENGTH"]
        self.context = CryptContext(["bcrypt", *OTHERS], deprecated="auto", bcrypt__rounds=conf["PASSWORD_COST"])
        self.common = set() if self.local else set(Path(conf["PASSWORD_COMMON"]).read_text().split())
        # an unknown login is to take as long as a known one: the hash of no password, made without hashing
        self.nobody = f"$2b${conf['PASSWORD_COST']:02}$" + "." * 53
        self.attempts, self.period = Attempts(conf), conf["LOGIN_PERIOD"]
        self.limits = {name: most * (LENIENT if self.local else 1) for name, most in LIMITS.items()} | conf["LOGIN_LIMITS"]
        self.place = Place(conf["PASSWORD_HASHES"])
        self._key = os.urandom(32)
        self._lock = threading.Lock()  # a TTLCache is not made for threads
        self._verified: TTLCache[bytes, tuple[dict[str, Any], Any]] = TTLCache(PASSWORDS, conf["PASSWORD_MEMORY"])
        self._checking: dict[tuple[bytes, str], Future[tuple[dict[str, Any], Any]]] = {}  # under way, by whom

    def hash(self, password: str, field: str) -> str:
        """The hash of a new password that is fit.

        :raises Problem: 400 if it is too short, too long or too common (NIST SP 800-63B 5.1.1), 429 or 503 if there are
            too many at once, of one address or of all.
        """
        if len(password) < self.length:
            raise Problem(400, "password too short!", "password_too_short", field)
        if len(password.encode()) > MAX_BYTES:
            raise Problem(400, f"password too long: over {MAX_BYTES} bytes", "password_too_long", field)
        if password.lower() in self.common:
            raise Problem(400, "password too common", "password_too_common", field)
        with self.place:
            self._count_hash()
            return cast(str, self.place.run(self.context.hash, password))

    def check(self, login: str, password: str) -> dict[str, Any]:
        """The user whose login and password these are. Equal ones of one address at once share a hash, and if right, a count.

        :raises ErrorResponse: 401 if they are nobody's.
        :raises Problem: 429 after too many attempts, 503 if too many hashes are made.
        """
        login = login[: Login.high + 1]  # a longer one is nobody's; the tables of attempts and events take no more than some
        key = self._digest(f"{login}\0{password}")
        mine, at = Future[tuple[dict[str, Any], Any]](), (key, _address())
        with self._lock:
            known = self._verified.get(key)
            first = mine if known else self._checking.setdefault(at, mine)
        counters.count("stuff_password_memory_total", result="hit" if known else "miss")
        if not known and first is mine:
            try:
                mine.set_result(self._check(key, login, password))
            except BaseException as error:
                mine.set_exception(error)
                raise
            finally:
                with self._lock:
                    del self._checking[at]
            db.assume(mine.result()[1], read=True)
            return mine.result()[0]
        try:
            user, assumption = known or first.result()
        except (ErrorResponse, Problem) as refused:  # the same guess is another attempt all the same
            forget = self._count(login)
            if isinstance(refused, ErrorResponse):
                audit.event("LOGIN_FAILED", login)
            else:
                forget()
            raise
        db.assume(assumption)
        return user

    def _check(self, key: bytes, login: str, password: str) -> tuple[dict[str, Any], Any]:
        with self.place:
            return self._hashed(key, login, password)

    def _hashed(self, key: bytes, login: str, password: str) -> tuple[dict[str, Any], Any]:
        user = db.get_auth(login=login)
        reference = user["pword"] if user else self.nobody
        forget = self._count(login)
        right, stronger = self.verify(password, reference)
        if not (user and right):
            audit.event("LOGIN_FAILED", login)
            err(
                "invalid credentials"
                if not self.local
                else f"invalid password for {login}"
                if user
                else f"no such user: {login}",
                401,
            )
        forget()
        if stronger:
            db.set_pword_rehash(login=login, old=reference, new=stronger)
        shown, proof = _shown(user), self._digest(stronger or reference)
        assumption = db.assumption("get_auth", lambda row: self._still(key, shown, proof, row), login=login)
        with self._lock:
            self._verified[key] = shown, assumption
        return shown, assumption

    def verify(self, password: str, reference: str) -> tuple[bool, str | None]:
        """Whether a hash is that of a password, and a stronger one of the same, if it should be replaced; in the place."""
        fit = len(password.encode()) <= MAX_BYTES and "\0" not in password
        right, stronger = self.place.run(self.context.verify_and_update, password if fit else "", reference)
        return right and fit, stronger

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key).digest()

    def _still(self, key: bytes, shown: dict[str, Any], proof: bytes, row: dict[str, Any] | None) -> bool:
        same = row is not None and shown == _shown(row) and proof == self._digest(row["pword"])
        if not same:
            with self._lock:
                self._verified.pop(key, None)
        return same

    def _count(self, login: str) -> Callable[[], object]:
        """Count the attempt, before it is made, so that a thousand at once are counted as well.

        Each address has so many attempts at an account, and so many in all. Once an account has seen too many from everywhere,
        an address has but one: its owner still gets in from a new place, a guesser with many addresses gets one guess each.

        :returns: what takes the attempt back.
        """
        (made, forget), limits = self.attempts.add(login, _address()), self.limits
        most = 1 if made["login"] > limits["login"] else limits["pair"]
        if made["pair"] > most or made["address"] > limits["address"]:
            self._refuse("login", most, made["wait"])
        return forget

    def _count_hash(self) -> None:
        """Count the hash of a new password by address; administrators may make as many as they like, and so may commands."""
        now = here(None)
        if now is None or vars(now.g).get("user", {}).get("isadmin"):
            return
        made, wait = self.attempts.add_hash(_address())
        if made > self.limits["hash"]:
            self._refuse("hash", self.limits["hash"], wait)

    def _refuse(self, policy: str, most: int, wait: int) -> NoReturn:
        raise Problem(
            429,
            headers={
                "Retry-After": str(wait),
                "RateLimit-Policy": f'"{policy}";q={most};w={self.period}',
                "RateLimit": f'"{policy}";r=0;t={wait}',
            },
        )


class Tokens:
    """Signed, short-lived proofs of identity: `stuff:login:YYYYMMDDhhmmss:signature`, or JWT (RFC 7519) where configured.

    What a header does not take of a login is percent-encoded (RFC 3986).
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self.kind, self.realm, self.delay = conf["FSA_TOKEN_TYPE"], conf["FSA_REALM"], 60 * conf["FSA_TOKEN_DELAY"]
        self.secret = (conf.get("FSA_TOKEN_SECRET") or "").encode()  # an empty one does not start, see commands
        self._known: dict[str, tuple[dict[str, Any], float, Any]] = {}  # tokens that were right: whose, until when

    def make(self, user: dict[str, Any]) -> str:
        """A token for a user, for now and a while."""
        end = time.time() + self.delay
        if self.kind == "jwt":
            claims = {"sub": user["login"], "aud": self.realm, "exp": int(end), "uid": user["id"], "epoch": user["epoch"]}
            return jwt.encode(claims, self.secret, "HS256")
        data = f"{self.realm}:{quote(user['login'], PLAIN)}:{time.strftime('%Y%m%d%H%M%S', time.gmtime(end))}"
        return f"{data}:{self._sign(data, user)}"

    def check(self, token: str) -> dict[str, Any]:
        """The user whom a token proves.

        :raises ErrorResponse: 401 if it is forged, expired or revoked; the token itself is never repeated.
        """
        known = self._known.get(token)
        if known and known[1] > time.time():
            db.assume(known[2])
            return known[0]
        found = self._jwt(token) if self.kind == "jwt" else self._readable(token)
        if found is None:
            raise ErrorResponse("invalid token", 401)
        if len(self._known) >= TOKENS:
            self._known.clear()
        user, end = _shown(found[0]), found[1]
        assumption = db.assumption("get_auth", lambda row: self._still(token, user, row), login=user["login"])
        self._known[token] = user, end, assumption
        db.assume(assumption, read=True)
        return user

    def _still(self, token: str, user: dict[str, Any], row: dict[str, Any] | None) -> bool:
        same = row is not None and _shown(row) == user
        if not same:
            self._known.pop(token, None)
        return same

    def _sign(self, data: str, user: dict[str, Any]) -> str:
        return hmac.digest(self.secret, f"{data}:{user['id']}:{user['epoch']}".encode(), "sha256").hex()

    def _readable(self, token: str) -> tuple[dict[str, Any], float] | None:
        data, _, signature = token.rpartition(":")
        realm, login, end = (data.split(":") + [""] * 3)[:3]
        if data.count(":") != 2 or realm != self.realm or not re.fullmatch("[0-9]{14}", end) or not signature.isascii():
            return None
        user = db.get_auth(login=unquote(login))
        if not user or not hmac.compare_digest(self._sign(data, user), signature):
            return None
        if end <= time.strftime("%Y%m%d%H%M%S", time.gmtime()):
            err("expired token", 401)
        return user, calendar.timegm(time.strptime(end, "%Y%m%d%H%M%S"))

    def _jwt(self, token: str) -> tuple[dict[str, Any], float] | None:
        try:
            claims = jwt.decode(token, self.secret, ["HS256"], audience=self.realm, options={"require": ["exp", "sub", "aud"]})
        except jwt.ExpiredSignatureError:
            err("expired token", 401)
        except jwt.PyJWTError:
            return None
        user = db.get_auth(login=claims["sub"])
        right = user and (user["id"], user["epoch"]) == (claims.get("uid"), claims.get("epoch"))
        return (user, claims["exp"]) if right else None


class Auth:
    """The two together, as FlaskSimpleAuth's hooks want them."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.passwords, self.tokens = Passwords(conf), Tokens(conf)
        self.key = (conf.setdefault("METRICS_KEY", None) or "").encode()

    def by_token(self, _: Any, request: Request) -> str:
        """Scheme `token`: Authorization: Bearer TOKEN (RFC 6750)."""
        token = _credentials("bearer")
        return _known(self.tokens.check(token)) if token is not None else err("missing token", 401)

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
        return _known(self.passwords.check(login, password))

    def by_scraper(self, _: Any, request: Request) -> str:
        """Scheme `scraper`: Authorization: Bearer KEY, where the key is METRICS_KEY; no user, and for the metrics alone."""
        given = (_credentials("bearer") or "").encode()
        if not self.key or not hmac.compare_digest(given, self.key):
            err("missing token", 401)
        g.user = {"id": 0, "login": "scraper", "isadmin": True}
        return "scraper"

    def by_form(self, _: Any, request: Request) -> str:
        """Scheme `form`: parameters `login` and `pword`."""
        given = request.get_json() if request.is_json else {**request.args, **request.form}
        login, password = given.get("login"), given.get("pword")
        if not isinstance(login, str) or not isinstance(password, str):
            raise ErrorResponse("missing login and pword", 401)
        if faults := [name for name, text in (("login", login), ("pword", password)) if UNFIT.search(text)]:
            why = "contains a character that is not allowed (NUL or a lone surrogate)"
            raise ErrorResponse("\n".join(f'error on parameter "{name}": {why}' for name in faults), 400)
        return _known(self.passwords.check(login, password))


def _credentials(scheme: str) -> str | None:
    """What follows a scheme, whatever its case, in Authorization."""
    kind, _, credentials = here().request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # a token pasted as the JSON text that /login gave is still quoted; no quote belongs to a token or to base 64
    return credentials.strip().strip('"') if kind.lower() == scheme else None


def _text(raw: bytes) -> str:
    """Login and password as text: UTF-8, or what clients send that know no charset (RFC 7617 2.1), Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin1")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A user's row without the hash."""
    return {name: value for name, value in row.items() if name != "pword"}


def _known(user: dict[str, Any]) -> str:
    here().g.user = user
    login: str = user["login"]
    return login


def _address() -> str:
    """Where the request comes from: an IPv4 address, or the /64 of an IPv6 one, which its holder changes at will."""
    peer = request.environ.get("werkzeug.proxy_fix.orig", {}).get("REMOTE_ADDR")  # if the proxy names nobody: itself
    address = _parsed(request.remote_addr) or _parsed(peer) or ipaddress.ip_address("::")
    if any(address in net for net in EMBEDDED):
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))


def _parsed(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, which some proxies name with its port; None for `unknown` and the like."""
    with suppress(ValueError):
        return ipaddress.ip_address(text or "")
    with suppress(ValueError):
        return ipaddress.ip_address(urlsplit(f"//{text}").hostname or "")
    return None


# what `authorize=` means


def is_admin(_: str) -> bool:
    """Group ADMIN."""
    return here().g.user["isadmin"] is True


def is_user(_: str, uid: int, __: Any) -> bool | None:
    """Object rule ("user",): the path names the caller; None, hence 404, if it names nobody."""
    db.share()  # what it guards are the caller's objects, never the row of the user
    return True if here().g.user["id"] == uid else False if db.get_users_uid(uid=uid) else None


def is_user_or_admin(login: str, uid: int, mode: Any) -> bool | None:
    """Object rule ("account",): the caller's own account, or any for an administrator."""
    own = is_user(login, uid, mode)
    return own if own is None else own or is_admin(login)


# what routes need


def caller() -> str | None:
    """The login on an open route, if good credentials came."""
    return cast(Any, current_app).get_user(required=False) if "Authorization" in request.headers else None


def check_caller() -> None:
    """Find out whether the caller is still whom the server took him for.

    :raises Problem: he is not, run the request again.
    """
    user = db.get_auth(login=g.user["login"])
    if user is None or _shown(user) != _shown(g.user):
        raise Problem(503, retry=True)


def token() -> str:
    """A token for the caller."""
    audit.event("LOGIN", g.user["login"])
    return _auth().tokens.make(g.user)


def revoke(login: str) -> None:
    """Every token issued to this user so far is dead."""
    audit.event("LOGOUT", login)  # first: with the transaction begun, it would take a second session
    db.set_epoch(login=login)


def hash_password(password: str, field: str = "pword") -> str:
    """The hash of a new password for the parameter `field`, refused with 400 if it is not fit."""
    return passwords().hash(password, field)


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
    """The token secret of a local instance: made at its first start, then kept in a file that only its user reads."""
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
    if conf["LOCAL"] and not conf.get("FSA_TOKEN_SECRET"):
        conf["FSA_TOKEN_SECRET"] = local_secret(Path(app.root_path, ".local", "token.secret"))
    auth = app.extensions["auth"] = Auth(conf)
    conf.setdefault("FSA_AUTH", ["token", "basic", "form", "scraper", "none"])
    conf.update(
        FSA_AUTH_DEFAULT=["token", "basic", "none"],
        FSA_AUTHENTICATION={"token": auth.by_token, "basic": auth.by_basic, "form": auth.by_form, "scraper": auth.by_scraper},
        FSA_GROUP_CHECK={"ADMIN": is_admin},
        FSA_OBJECT_PERMS={"user": is_user, "account": is_user_or_admin},
        FSA_CACHE="none",  # what it remembers would outlive changes
        FSA_PASSWORD_SCHEME=None,  # passwords are ours
    )
