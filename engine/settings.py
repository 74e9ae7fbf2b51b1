"""The settings: one table of name, type, default, bounds and help, from which the check at the start and docs/settings.md come.

APP_CONFIG names the configuration, a Python file whose upper-case names are settings.
"""

import difflib
import logging
import os
import textwrap
from pathlib import Path
from typing import Any, Literal

from flask import Config, Flask

from engine.setting import Level, Setting


def _anodb(app: Flask) -> dict[str, Any]:
    return {"db": "postgres", "conn": os.environ.get("DATABASE_URL"), "queries": "queries.sql", "application_name": app.name}


# fmt: off
TOPICS: dict[str, list[Setting]] = {
    "Instance": [
        Setting("LOCAL", bool, False,
            "True on one's own machine: telling messages, short passwords. Else unsafe settings are refused."),
        Setting("TRUSTED_PROXIES", int, 0,
            "Reverse proxies in front, of whose X-Forwarded-For and -Proto so many entries are believed. mod_wsgi is "
            "none.", 0, 100, old="PROXIES"),
        Setting("CORS_ORIGINS", list[str], (),
            "Origins, such as https://shop.example, whose pages may use this from a browser. None: no page may."),
        Setting("REQUIRE_IF_MATCH", bool, False, "True: a change without If-Match is refused, 428."),
        Setting("MAX_CONTENT_LENGTH", int, 2 * 1024 * 1024, "Bytes that a request body may have; above that it is 413.", 1),
        Setting("BODY_READERS", int, 3,
            "Threads of a process that may wait for a body to arrive, fewer than it has. Of one address one less; a "
            "further body is 503.", 1),
        Setting("BODY_TIMEOUT", float, 15.0,
            "Seconds in which a body must arrive, and one more for each 16 KiB, longer than any request takes. Else it is "
            "408.", 0.001),
        Setting("CHANGES_WAITERS", int, 2,
            "Threads of a process that may wait for changes (/changes?wait=...), half of those it has at most.", 0),
    ],
    "Database": [
        Setting("ANODB", dict[str, Any], _anodb,
            "AnoDB's arguments; those that are not given keep their defaults. conn: a libpq connection string or URL, by "
            "default DATABASE_URL; None leaves it to PG*, or to the embedded PostgreSQL.",
            shown="queries.sql, and the application's name", secret=True),
        Setting("DATABASE_READ", str | None, None,
            "Connection string of standbys for what only reads (docs/scaling.md). None: reads go where writes go.",
            secret=True),
        Setting("DATABASE_STALE", float, 5.0,
            "Seconds after which reads on standbys see what anybody wrote. Who wrote it sees it at once.", 0),
        Setting("DATABASE_POOL", int, 8, "Connections of each side that a process may hold; a thread needs one.", 1),
        Setting("DATABASE_MAX_AGE", float, 600.0,
            "Seconds after which a connection is replaced, so that one server does not keep what should go to another.", 0.001),
        Setting("DATABASE_TIMEOUT", float, 0.9,
            "Seconds that a request waits for a connection, or for a server that is gone, before it is answered 503.",
            0.001, old="DATABASE_PATIENCE"),
        Setting("DATABASE_READ_TIMEOUT", float, 5.0, "Seconds that a statement that reads may take before it is ended.", 0.001),
        Setting("DATABASE_WRITE_TIMEOUT", float, 10.0,
            "Seconds that a statement that writes may take before it is ended.", 0.001),
        Setting("DATABASE_SLOW", float | None, 0.5,
            "Seconds above which a query is logged by name, with the server process that ran it. None: never.", 0),
        Setting("DATABASE_SLOW_PLAN", bool, False, "True: its plan is logged as well, once a minute for each query."),
        Setting("DATABASE_TRACE", bool, False,
            "True: reads carry the request's id to the database's log (%a in log_line_prefix), as writes always do."),
        Setting("DATABASE_POOLER", bool, False,
            "True behind a transaction pooler (pgbouncer of any age): nothing is prepared, nothing set per session.",
            old="DATABASE_POOLED"),
    ],
    "Observation": [
        Setting("METRICS_KEY", str | None, None,
            "The bearer token of a scraper of /metrics. None: administrators alone.", secret=True),
        Setting("METRICS_FOLDER", str | None, None,
            "Folder where the processes of one server share their counters. None: one of their own in memory."),
        Setting("SLOW_REQUEST", float | None, 1.0,
            "Seconds above which a request is logged as slow, with its queries and their times. None: never.", 0),
        Setting("SERVER_TIMING", bool, False,
            "True: each answer tells in Server-Timing how long its queries took, to whoever asks."),
        Setting("PROFILING", bool, False,
            "True: a request with the header X-Profile, made by an administrator, leaves its profile in the log."),
        Setting("TRACES", str | None, None,
            "URL of a collector of OpenTelemetry traces, such as http://collector:4318/v1/traces."),
        Setting("TRACES_RATIO", float, 1.0,
            "Share of the requests that begin a trace. One that comes with a trace follows what that says.", 0, 1),
        Setting("MAIL", dict[str, Any] | None, None,
            'Errors by mail: {"host": "mail.example", "port": 587, "from": "app@example", "to": ["you@example"]}, and '
            "user, password, tls, ca.", secret=True),
        Setting("SYSLOG", str | tuple[str, int] | None, None, 'Errors to syslog: "/dev/log", or a host and a port.'),
        Setting("LOG_LEVEL", Level, "INFO", "Level of Python's logging. Requests are always logged."),
    ],
    "Tokens and passwords": [
        Setting("FSA_TOKEN_SECRET", str | None, None,
            "Signs tokens, 256 bits at least, by default APP_SECRET of the environment. A local instance without one "
            "makes its own (.local/token.secret).", secret=True, env="APP_SECRET"),
        Setting("FSA_TOKEN_TYPE", Literal["fsa", "jwt"], "fsa",
            'The readable realm:login:timestamp:signature is "fsa"; JSON Web Tokens are "jwt".'),
        Setting("FSA_TOKEN_DELAY", float, 60.0, "Minutes that a token lives.", 0.001),
        Setting("FSA_REALM", str, lambda app: app.name,
            "Name that log-ins and tokens are for, without a colon.", shown="the application's name"),
        Setting("FSA_SECURE", bool, True,
            "True: plain HTTP from another machine is refused, 403. False: served, with a warning (passwords can be read "
            "on the way)."),
        Setting("GROUPS", list[str], (),
            'Names of groups beside ADMIN, such as ["EDITOR"], each a rule: authorize="EDITOR".'),
        Setting("SESSION_SEEN", float, 60.0,
            "Seconds between two times that the sessions seen are written, and old ones forgotten. 0: never.", 0),
        Setting("TOTP_KEY", str | None, None,
            "Encrypts the secrets of second factors, 256 bits at least that are not those of FSA_TOKEN_SECRET, by default "
            "APP_TOTP_KEY of the environment. A local instance without one makes its own (.local/totp.key), a deployed one "
            "keeps no second factors.", secret=True, env="APP_TOTP_KEY"),
        Setting("PASSWORD_COST", int, 12, "Cost of bcrypt: each step doubles the time of a guess.", 4, 31),
        Setting("PASSWORD_LENGTH", int, 8, "Characters that a new password has at least.", 1, 72),
        Setting("PASSWORD_COMMON", str, lambda _: str(Path(__file__).parent / "auth" / "common-passwords.txt"),
            "File of the passwords that a deployed instance refuses, parted by blanks or lines.",
            shown="engine/auth/common-passwords.txt"),
        Setting("PASSWORD_MEMORY", float, 300.0, "Seconds that a verified password need not be hashed again.", 0),
        Setting("PASSWORD_HASHES", int, 2,
            "Passwords that a process hashes at once, fewer than it has threads. A further one is refused, 503.", 1),
        Setting("LOGIN_PERIOD", int, 60, "Seconds in which attempts at a password are counted.", 1),
        Setting("LOGIN_LIMITS", dict[Literal["pair", "address", "login", "hash"], int], {},
            'Attempts per period: of one address at one account ("pair", 5), of one address ("address", 50), at one '
            'account ("login", 100); hashes of new passwords for one address ("hash", 60). Where LOCAL, 20 times '
            "as many, but for what is given."),
        Setting("REDIS_URL", str | None, None,
            "Redis where attempts are counted instead of in PostgreSQL: redis://, rediss:// (TLS) or unix://, by default "
            "REDIS_URL of the environment. It needs `make venv.redis`.", secret=True, env="REDIS_URL"),
        Setting("REDIS_TIMEOUT", float, 0.25, "Seconds to wait for an answer of Redis, and of each sentinel.", 0.001),
        Setting("REDIS_SENTINELS", list[str], (),
            'Sentinels, such as ["10.0.0.5:26379"]: the host in REDIS_URL is then the name of what they watch.'),
        Setting("REDIS_SENTINEL_PASSWORD", str | None, None,
            "Password of the sentinels themselves, if they ask for one, by default that variable of the environment.",
            secret=True, env="REDIS_SENTINEL_PASSWORD"),
        Setting("AUDIT_SEAL", float, 5.0, "Seconds between two sealings of the audit trail. 0: by command alone.", 0),
    ],
}
# fmt: on
_declared: dict[str, Setting] = {}  # by the application


def table() -> dict[str, Setting]:
    """Every setting by its name, the application's own included."""
    return {row.name: row for rows in TOPICS.values() for row in rows} | _declared


def declare_setting(name: str, kind: Any, default: Any, help: str, **more: Any) -> None:
    """Add a setting of the application's own, before `load`; parameters as of `Setting`.

    :raises ValueError: if there is another one of this name.
    """
    row = Setting(name, kind, default, help, **more)
    if table().get(name, row) != row:
        raise ValueError(f"{name} is a setting already")
    _declared[name] = row


def read(app: Flask) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read the configuration that APP_CONFIG names, which may be empty or not there.

    :return: the settings by their present names; the faults; the warnings, one sentence each.
    """
    rows, stated, told = table(), Config(app.root_path), list[str]()
    path = os.environ.get("APP_CONFIG")
    if path and not stated.from_pyfile(path, silent=True):
        told.append(f"APP_CONFIG names no file, so defaults hold: {path}.")
    renamed = {row.old: row.name for row in rows.values() if row.old}
    known, faults, found = {*rows, *app.default_config}, list[str](), dict[str, Any]()
    for name, value in stated.items():
        new = renamed.get(name, name)
        if new != name and new in stated:
            faults.append(f"{name} is the old name of {new}, which is there as well: remove {name}.")
            continue
        if new != name:
            told.append(f"{name} is called {new} now; the old name is accepted in this version alone.")
        elif name not in known and not name.startswith("FSA_"):
            near = difflib.get_close_matches(name, sorted(known), 1)
            faults.append(f"{name} is no setting{f'; did you mean {near[0]}?' if near else ', see docs/settings.md.'}")
        if new in rows and (fault := rows[new].fault(value)):
            faults.append(fault)
        found[new] = value
    for row in rows.values():
        if row.env in os.environ and row.name not in found and (fault := row.fault(row.initial(app))):
            faults.append(f"{fault} It comes from the environment's {row.env}.")
    return found, faults, told


def load(app: Flask) -> None:
    """Apply the defaults and the configuration.

    :raises SystemExit: with all faults, one sentence each (in debug mode RuntimeError, as the reloader goes on after it).
    """
    found, faults, told = read(app)
    for text in told:
        logging.getLogger(app.name).warning(text)  # app.logger would add a handler before ours is there
    if faults:
        why = "refusing to start:\n- " + "\n- ".join(faults)
        raise RuntimeError(why) if app.debug else SystemExit(why)
    for row in table().values():
        app.config[row.name] = _copy(row.initial(app))
    conn = app.config["ANODB"] | found.get("ANODB", {})
    app.config.update(found, ANODB=conn)


def _copy(value: Any) -> Any:
    """A default that the application may change."""
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, dict) else value


def comment(row: Setting) -> str:
    """The comment above a setting in app.conf."""
    return textwrap.fill(row.help, 128, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


def page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from the table in `engine/settings.py`. `APP_CONFIG` names a Python file that sets them;",
        "without it, or where it is empty, the defaults hold. An unknown name, a wrong type or a value out of bounds stops the",
        "start, and all such faults are told at once. Settings of Flask and of FlaskSimpleAuth (`FSA_...`) go into the same",
        "file.",
    ]
    for topic, rows in TOPICS.items():
        lines += ["", f"## {topic}", "", "| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
        for row in rows:
            default = row.shown or f"`{_copy(row.default)!r}`"
            more = " Secret." * row.secret + f" Formerly `{row.old}`." * bool(row.old)
            lines.append(f"| `{row.name}` | {row.describe()} | {default} | {row.help}{more} |")
    return "\n".join(lines) + "\n"
