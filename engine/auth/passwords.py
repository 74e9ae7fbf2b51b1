"""Passwords: hashed, verified in a bounded place, remembered for a while, guesses at them counted."""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from cachetools import TTLCache
from FlaskSimpleAuth import ErrorResponse, err
from passlib.context import CryptContext

from engine.auth import audit
from engine.auth.address import address
from engine.auth.attempts import Attempts
from engine.auth.guessable import common
from engine.auth.hashing import Place
from engine.auth.rates import refuse
from engine.auth.user import assume, shown
from engine.db.reference import db
from engine.http.request import there
from engine.metrics import counters
from engine.problem import Problem
from engine.types import Login

MAX_BYTES = 72  # of a password: bcrypt looks no further
PASSWORDS = 10_000  # that a process remembers, at a kilobyte each: forgetting costs a hash
# attempts at a password, and hashes of new ones, that are let through in a period; a local instance, which is tried out by
# systematic tests, lets through LENIENT times as many
LIMITS, LENIENT = {"pair": 5, "address": 50, "login": 100, "hash": 60}, 20
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

    def hash(self, password: str, field: str, login: str | None = None) -> str:
        """The hash of a new password that is fit.

        :param login: whose it is to be, where that is known: a deployed instance refuses a password that equals it.
        :raises Problem: 400 if it is too short, too long or too common (NIST SP 800-63B 5.1.1), 429 or 503 if there are
            too many at once, of one address or of all.
        """
        if len(password) < self.length:
            raise Problem(400, "password too short!", "password_too_short", field)
        if len(password.encode()) > MAX_BYTES:
            raise Problem(400, f"password too long: over {MAX_BYTES} bytes", "password_too_long", field)
        if not self.local and (common(password, self.common) or password.lower() == (login or "").lower()):
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
        mine, at = Future[tuple[dict[str, Any], Any]](), (key, address())
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
            assume(mine.result()[1], read=True)
            return mine.result()[0]
        try:
            user, assumption = known or first.result()
        except (ErrorResponse, Problem) as refused:  # the same guess is another attempt all the same
            forget = self.count(login)
            if isinstance(refused, ErrorResponse):
                audit.event("LOGIN_FAILED", login)
            else:
                forget()
            raise
        assume(assumption)
        return user

    def _check(self, key: bytes, login: str, password: str) -> tuple[dict[str, Any], Any]:
        with self.place:
            return self._hashed(key, login, password)

    def _hashed(self, key: bytes, login: str, password: str) -> tuple[dict[str, Any], Any]:
        user = db.get_auth(login=login)
        reference = user["pword"] if user else self.nobody
        forget = self.count(login)
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
        seen, proof = shown(user), self._digest(stronger or reference)
        assumption = db.assumption("get_auth", lambda row: self._still(key, seen, proof, row), login=login)
        with self._lock:
            self._verified[key] = seen, assumption
        return seen, assumption

    def verify(self, password: str, reference: str) -> tuple[bool, str | None]:
        """Compare a password with a hash; in the place.

        An older hash is mostly cheaper. One of today's is verified beside it: a refusal takes as long for it as for others.

        :returns: if it is right, and a stronger hash of it, if it should be replaced.
        """
        fit = len(password.encode()) <= MAX_BYTES and "\0" not in password
        older = self.context.needs_update(reference)
        beside = self.place.start(self.context.verify, "", self.nobody) if older else None
        right, stronger = self.place.run(self.context.verify_and_update, password if fit else "", reference)
        if beside is not None:
            beside.result()
        return right and fit, stronger

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key).digest()

    def _still(self, key: bytes, seen: dict[str, Any], proof: bytes, row: dict[str, Any] | None) -> bool:
        same = row is not None and seen == shown(row) and proof == self._digest(row["pword"])
        if not same:
            with self._lock:
                self._verified.pop(key, None)
        return same

    def count(self, login: str) -> Callable[[], object]:
        """Count the attempt, before it is made, so that a thousand at once are counted as well.

        Each address has so many attempts at an account, and so many in all. Once an account has seen too many from everywhere,
        an address has but one: its owner still gets in from a new place, a guesser with many addresses gets one guess each.

        :returns: what takes the attempt back.
        """
        (made, forget), limits = self.attempts.add(login, address()), self.limits
        most = 1 if made["login"] > limits["login"] else limits["pair"]
        if made["pair"] > most or made["address"] > limits["address"]:
            refuse("login", most, self.period, made["wait"])
        return forget

    def _count_hash(self) -> None:
        """Count the hash of a new password by address; administrators may make as many as they like, and so may commands."""
        now = there()
        if now is None or (now.user and now.user["isadmin"]):
            return
        made, wait = self.attempts.add_one(f"h {address()}", self.period)
        if made > self.limits["hash"]:
            refuse("hash", self.limits["hash"], self.period, wait)
