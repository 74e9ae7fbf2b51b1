"""Attempts at a password where Redis is configured: counted there, and by PostgreSQL while it is away.

A Redis that is none stands in; what a real one does with the scripts, and with its own failover, shows `make check.redis`.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, basic
from inside import counted
from test_commands import start

pytestmark = pytest.mark.internal


class Fake:
    """What the scripts do, in Python; away on demand."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.away, self.asked = False, 0

    def register_script(self, text: str) -> Callable[[list[str], Any], Any]:
        import redis

        from engine.auth import attempts

        assert text in (attempts.COUNT, attempts.FORGET)

        def run(keys: list[str], values: Any) -> Any:
            self.asked += 1
            if self.away:
                raise redis.TimeoutError("Timeout reading from 192.0.2.1:6379")
            for key in keys:
                self.numbers[key] = self.numbers.get(key, 0) + (1 if text == attempts.COUNT else -1)
            return [*(self.numbers[key] for key in keys), values[0] - 500] if values else None

        return run


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The application, with a Redis."""
    from app import app
    from engine.auth import attempts

    fake = Fake()
    monkeypatch.setattr("redis.Redis.from_url", lambda *_, **__: fake)
    conf = {**app.config, "REDIS_URL": "redis://192.0.2.1"}
    monkeypatch.setattr(app.extensions["auth"].passwords, "attempts", attempts.Attempts(conf))
    return fake


def test_attempts_are_counted_in_redis_alone(client: Any, sql: Any, away: Fake) -> None:
    before = counted("stuff_attempts_total").get("redis", 0)
    for _ in range(5):
        client.get("/hello", 401, headers=basic("hobbes", "guess"))
    response = client.get("/hello", 429, headers=basic("hobbes", "guess"))
    assert response.headers["Retry-After"] == "600"
    assert response.headers["RateLimit"] == '"login";r=0;t=600'
    assert sql("SELECT count(*) FROM Attempt") == [(0,)]
    assert away.numbers["stuff:attempt:p 127.0.0.1 hobbes"] == 6
    assert counted("stuff_attempts_total")["redis"] == before + 6


def test_right_passwords_are_taken_back_where_they_were_counted(client: Any, sql: Any, away: Fake) -> None:
    client.post("/register", 201, data={"login": "moe", "pword": "secret"})
    client.get("/hello", 200, headers=basic("moe", "secret"))
    assert away.numbers.pop("stuff:attempt:h 127.0.0.1") == 1  # that of a new password stays
    assert set(away.numbers.values()) == {0}
    assert sql("SELECT count(*) FROM Attempt") == [(0,)]


def test_while_redis_is_away_postgresql_counts(
    client: Any, sql: Any, away: Fake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.auth import attempts

    caplog.set_level(logging.INFO, "engine.attempts")
    away.away, before = True, counted("stuff_attempts_total").get("postgresql", 0)
    for status in [401] * 5 + [429] * 5:
        client.get("/hello", status, headers=basic("hobbes", "guess"))
    assert sql("SELECT number FROM Attempt WHERE subject = 'p 127.0.0.1 hobbes'") == [(10,)]
    assert counted("stuff_attempts_total")["postgresql"] == before + 10
    assert away.asked == 1  # then it is left alone for a while
    assert [record.message for record in caplog.records] == [
        "Redis is away, PostgreSQL counts: Timeout reading from 192.0.2.1:6379"
    ]
    monkeypatch.setattr(attempts, "PAUSE", 0.0)
    from app import app

    app.extensions["auth"].passwords.attempts.redis._again = 0.0
    client.get("/hello", 401, headers=basic("susie", "guess"))
    assert (away.asked, len(caplog.records)) == (2, 1)  # still away: nothing new to tell
    away.away = False
    client.get("/hello", 401, headers=basic("hobbes", "guess"))
    assert away.numbers["stuff:attempt:p 127.0.0.1 hobbes"] == 1
    assert [record.message for record in caplog.records][1:] == ["Redis is back"]


def test_one_request_at_a_time_finds_out_whether_it_is_back(client: Any, sql: Any, away: Fake) -> None:
    from app import app

    redis = app.extensions["auth"].passwords.attempts.redis
    redis._again = 0.0
    with redis._asking:
        client.get("/hello", 401, headers=basic("hobbes", "guess"))
    assert away.asked == 0
    assert sql("SELECT number FROM Attempt WHERE subject = 'l hobbes'") == [(1,)]


def test_what_redis_forgot_meanwhile_is_not_taken_back_elsewhere(sql: Any, away: Fake) -> None:
    from app import app

    store = app.extensions["auth"].passwords.attempts
    sql("INSERT INTO Attempt(subject, number, until) VALUES ('l hobbes', 3, now() + '1 minute')")
    _, forget = store.add("hobbes", "127.0.0.1")
    away.away = True
    forget()
    assert sql("SELECT number FROM Attempt WHERE subject = 'l hobbes'") == [(3,)]


# settings


def test_without_a_url_redis_is_not_even_imported() -> None:
    code = "import app, sys; print('redis' in sys.modules)"
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_where_the_package_is_missing_it_says_so_and_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app
    from engine.auth import attempts

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SystemExit, match="not installed"):
        attempts.Attempts({**app.config, "REDIS_URL": "redis://localhost"})


@pytest.mark.parametrize(
    "settings",
    [
        {"REDIS_URL": "http://:sesame@localhost"},
        {"REDIS_URL": "redis://:sesame/sesame@localhost"},  # of which urllib takes a part for the port, and quotes it
        {"REDIS_URL": "redis://:sesame@", "REDIS_SENTINELS": ["localhost:26379"]},
        {"REDIS_URL": "redis://:sesame@main", "REDIS_SENTINELS": ["localhost:sesame"]},
    ],
)
def test_what_cannot_be_read_stops_any_instance_and_is_not_repeated(tmp_path: Path, settings: dict[str, Any]) -> None:
    wrong = start(tmp_path, **settings)
    assert (wrong.returncode, wrong.stderr.count("REDIS_URL or REDIS_SENTINELS cannot be read")) == (1, 1)
    assert "sesame" not in wrong.stderr


@pytest.mark.parametrize(
    ("url", "sentinels", "words"),
    [
        (None, [], []),
        ("unix:///run/redis.sock", [], []),
        ("redis://localhost", [], []),
        ("redis://127.0.0.2:6379/1", [], []),
        ("redis://[::1]", [], []),
        ("rediss://:sesame@redis.example", [], []),
        ("redis://:sesame@redis.example", [], ["without TLS"]),
        ("redis://192.0.2.1", [], ["without TLS", "without a password"]),
        ("rediss://main", ["127.0.0.1"], ["without a password"]),
        ("redis://localhost", ["127.0.0.1"], ["without TLS", "without a password"]),  # a name, wherever the primary is
    ],
)
def test_an_unsafe_way_to_redis_is_named(url: str | None, sentinels: list[str], words: list[str]) -> None:
    from engine.auth import attempts

    found = attempts.faults({"REDIS_URL": url, "REDIS_SENTINELS": sentinels})
    assert len(found) == len(words)
    for fault, word in zip(found, words, strict=True):
        assert word in fault
        assert "sesame" not in fault


def test_a_deployed_instance_refuses_an_unsafe_way_to_redis(tmp_path: Path) -> None:
    unsafe = start(tmp_path, LOCAL=False, PASSWORD_COST=10, REDIS_URL="redis://:sesame@redis.example")
    assert unsafe.returncode == 1
    assert "REDIS_URL leads to another machine without TLS" in unsafe.stderr
    assert "sesame" not in unsafe.stderr


def test_every_wait_for_redis_and_its_sentinels_is_short() -> None:
    from redis.connection import SSLConnection

    from app import app
    from engine.auth import attempts

    conf = {**app.config, "REDIS_URL": "rediss://:sesame@main/3?ssl_ca_certs=/ca.pem", "REDIS_SENTINEL_PASSWORD": "open"}
    clients = [attempts._client(conf)]
    found = attempts._client(conf | {"REDIS_SENTINELS": ["192.0.2.1", "[2001:db8::1]:1234"]})
    manager = found.connection_pool.sentinel_manager
    assert found.connection_pool.service_name == "main"
    for one in [*clients, found]:
        options = one.connection_pool.connection_kwargs
        assert (options["password"], options["db"]) == ("sesame", 3)
    places = [one.connection_pool.connection_kwargs for one in manager.sentinels]
    assert [(place["host"], place["port"], place["password"]) for place in places] == [
        ("192.0.2.1", 26379, "open"),
        ("2001:db8::1", 1234, "open"),
    ]
    for one in [*clients, found, *manager.sentinels]:
        options = one.connection_pool.connection_kwargs
        assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.25
        assert options["retry"].get_retries() == 0
        assert options["ssl_ca_certs"] == "/ca.pem"
        assert issubclass(one.connection_pool.connection_class, SSLConnection)
