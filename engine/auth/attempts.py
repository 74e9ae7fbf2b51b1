"""Attempts at a password, counted exactly for all servers: in Redis where configured, else in PostgreSQL. Imported by auth.

Where Redis does not answer, PostgreSQL counts: at worst a guesser has the attempts of a period once more. Nothing else about
users is in Redis, see docs/decisions/058-no-cache-of-users.md.
"""

import ipaddress
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from engine.db.reference import db
from engine.metrics import counters

log = logging.getLogger("engine.attempts")

PAUSE = 1.0  # seconds that a Redis which failed is left alone
PREFIX = "stuff:attempt:"
# Redis runs a script in one round trip and alone. A period ends when it was to, also for a number that came down to 0 meanwhile
COUNT = """
local answer, longest = {}, 0
for place, key in ipairs(KEYS) do
  answer[place] = redis.call('INCR', key)
  if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, ARGV[1]) end
  longest = math.max(longest, redis.call('PTTL', key))
end
table.insert(answer, longest)
return answer
"""
FORGET = """
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) > 0 then redis.call('DECR', key) end
end
"""


class Attempts:
    """The numbers of attempts in the period under way.

    :param conf: the configuration: LOGIN_PERIOD, REDIS_URL and what goes with it.
    :raises SystemExit: Redis is configured, and the client is not installed or the URL cannot be read.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self.period, self.redis = conf["LOGIN_PERIOD"], Store(conf) if conf["REDIS_URL"] else None

    def add(self, login: str, address: str) -> tuple[dict[str, int], Callable[[], object]]:
        """Count an attempt before it is made.

        :returns: the numbers for the login, the address, and the pair of them, with the seconds to wait until the period ends;
            and what takes the attempt back, to be called if it was right.
        """
        if redis := self.redis:
            keys = [f"{PREFIX}l {login}", f"{PREFIX}a {address}", f"{PREFIX}p {address} {login}"]
            if numbers := redis.run(COUNT, keys, 1000 * self.period):
                counters.count("stuff_attempts_total", store="redis")
                made = dict(zip(("login", "address", "pair"), numbers, strict=False)) | {"wait": math.ceil(numbers[3] / 1000)}
                return made, lambda: redis.run(FORGET, keys)  # gone meanwhile, it stays counted, and never in the other store
        counters.count("stuff_attempts_total", store="postgresql")
        made = db.add_attempt(login=login, address=address, period=self.period)
        return made, lambda: db.del_attempt(login=login, address=address)

    def add_one(self, subject: str, period: int) -> tuple[int, int]:
        """Count what is no password, such as a request: the number for the subject, and the seconds until the period ends."""
        if (redis := self.redis) and (numbers := redis.run(COUNT, [PREFIX + subject], 1000 * period)):
            return numbers[0], math.ceil(numbers[1] / 1000)
        made = db.add_attempt_one(subject=subject, period=period)
        return made["number"], made["wait"]


class Store:
    """A Redis that may be away: every wait is short, and after a failure one request a second finds out whether it is back."""

    def __init__(self, conf: dict[str, Any]) -> None:
        try:
            import redis
        except ImportError:
            sys.exit("refusing to start:\n- REDIS_URL is set and the redis package not installed: make venv.redis")
        try:
            client = _client(conf)
        except (ValueError, KeyError):  # whose text may hold a part of the password
            sys.exit("refusing to start:\n- REDIS_URL or REDIS_SENTINELS cannot be read, see app.conf")
        counters.at("stuff_attempts_total", store="redis")  # there from the start: the alert knows by it that Redis is to count
        self._failures = (redis.RedisError, OSError)
        self._scripts = {text: client.register_script(text) for text in (COUNT, FORGET)}
        self._again: float | None = None  # when to ask again, while it is away, in the seconds of `time.monotonic()`
        self._lock, self._asking = threading.Lock(), threading.Lock()

    def run(self, script: str, keys: list[str], *values: Any) -> Any:
        """What a script answers, None while Redis is away."""
        again = self._again
        if again is None:
            return self._run(script, keys, values)
        if time.monotonic() < again or not self._asking.acquire(blocking=False):
            return None
        try:
            return self._run(script, keys, values)
        finally:
            self._asking.release()

    def _run(self, script: str, keys: list[str], values: tuple[Any, ...]) -> Any:
        try:
            answer = self._scripts[script](keys, values)
        except self._failures as error:
            with self._lock:
                before, self._again = self._again, time.monotonic() + PAUSE
            if before is None:
                log.error("Redis is away, PostgreSQL counts: %s", error)
            return None
        with self._lock:
            before, self._again = self._again, None
        if before is not None:
            log.warning("Redis is back")
        return answer


def _client(conf: dict[str, Any]) -> Any:
    """The client that the configuration asks for.

    :raises ValueError: an address cannot be read.
    :raises KeyError: sentinels are given, and no name of what they watch.
    """
    from redis import Redis, Sentinel, SSLConnection
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry

    wait = conf["REDIS_TIMEOUT"]
    common = {"socket_timeout": wait, "socket_connect_timeout": wait, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    if not conf["REDIS_SENTINELS"]:
        return Redis.from_url(conf["REDIS_URL"], **common)
    options = parse_url(conf["REDIS_URL"])
    secure = {"ssl": options.pop("connection_class", None) is SSLConnection}
    secure |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    places = [urlsplit(f"//{place}") for place in conf["REDIS_SENTINELS"]]
    sentinels = Sentinel(
        [(place.hostname, place.port or 26379) for place in places],
        sentinel_kwargs=common | secure | {"password": conf["REDIS_SENTINEL_PASSWORD"]},
    )
    return sentinels.master_for(options.pop("host"), **common | secure | options)


def faults(conf: dict[str, Any]) -> list[str]:
    """What is unsafe on the way to Redis, one sentence each; never the URL itself."""
    url = urlsplit(conf["REDIS_URL"] or "unix:")
    if url.scheme == "unix" or (not conf["REDIS_SENTINELS"] and _here(url.hostname or "localhost")):
        return []
    found = [] if url.scheme == "rediss" else ["REDIS_URL leads to another machine without TLS (rediss://)"]
    return found if url.password else [*found, "REDIS_URL leads to another machine without a password"]


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
