"""Commands of the server, `flask --app app doctor | admin LOGIN | audit-verify`, and the refusal to start when unsafe."""

import os
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from FlaskSimpleAuth import ErrorResponse

from engine import settings
from engine.auth import attempts, auth
from engine.db.reference import db
from engine.db.schema import QUERIES, missing
from engine.http import cors
from engine.problem import Problem
from engine.types import Login

LOOKED = (
    "the token's secret, cost and length of passwords, common passwords, FSA_AUTH, "
    "debug modes, CORS_ORIGINS, REDIS_URL, names, types and bounds of all settings"
)


def faults(app: Flask, conf: dict[str, Any]) -> list[str]:
    """The settings that make a deployed instance unsafe, one sentence each."""
    found = cors.faults(conf["CORS_ORIGINS"])
    secret = str(conf["FSA_TOKEN_SECRET"] or "")
    if len(secret.encode()) < 32 or len(set(secret)) < 8:
        found.append("FSA_TOKEN_SECRET has less than 256 bits (openssl rand -hex 32 makes a good one)")
    key = str(conf["TOTP_KEY"] or "")
    if key and (len(key.encode()) < 32 or len(set(key)) < 8 or key == secret):
        found.append("TOTP_KEY has less than 256 bits, or is that of tokens (openssl rand -hex 32 makes a good one)")
    if conf["PASSWORD_COST"] < 10:
        found.append(f"PASSWORD_COST is {conf['PASSWORD_COST']}, less than 10: stolen hashes would be guessed too soon")
    if conf["PASSWORD_LENGTH"] < 8:
        found.append(f"PASSWORD_LENGTH is {conf['PASSWORD_LENGTH']}, less than 8: a password would be guessed too soon")
    if "fake" in conf["FSA_AUTH"]:
        found.append("FSA_AUTH contains fake, which trusts whoever is local")
    if app.debug or conf.get("FSA_MODE", "prod") != "prod":
        found.append("a debug mode is on (FLASK_DEBUG or FSA_MODE)")
    if not Path(conf["PASSWORD_COMMON"]).is_file():
        found.append(f"PASSWORD_COMMON names no file: {conf['PASSWORD_COMMON']}")
    return found + attempts.faults(conf)


def open_doors(app: Flask) -> list[str] | None:
    """The fault of demonstration users with their known passwords, if there are any; None if the database is away."""
    try:
        with app.app_context():
            found = [login for login, password in _demonstration(app) if _opens(login, password)]
    except Problem:
        return None
    finally:
        db.release()
    return [f"demonstration users are there with their known passwords: {' '.join(found)}"] if found else []


def _demonstration(app: Flask) -> list[list[str]]:
    lines = Path(app.root_path, "users.in").read_text().splitlines()
    return [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]


def _opens(login: str, password: str) -> bool:
    user = db.get_auth(login=login)
    return bool(user and auth.passwords().context.verify(password, user["pword"]))


@click.command("doctor")
@with_appcontext
def doctor() -> None:
    """Say what was looked at, and what would stop an instance that is deployed (LOCAL = False) with this configuration."""
    app = current_app
    stated, _, told = settings.read(app)  # again: a local instance has made a secret of its own since
    secret = stated.get("FSA_TOKEN_SECRET", settings.table()["FSA_TOKEN_SECRET"].initial(app))
    found = faults(app, {**app.config, "FSA_TOKEN_SECRET": secret})
    users = open_doors(app)
    click.echo(f"configuration: {os.environ.get('APP_CONFIG', 'none')} (LOCAL = {app.config['LOCAL']})")
    for text in told:
        click.echo(text)
    click.echo(f"looked at: {LOOKED}{'' if users is None else '; demonstration users in the database'}")
    if users is None:
        click.echo("NOT looked at: demonstration users, as the database is away")
    if found := found + (users or []):
        raise click.ClickException("deployed, it would refuse to start:\n- " + "\n- ".join(found))
    click.echo("nothing that was looked at would stop a deployment")


def read_password(length: int) -> str:
    """A password, asked for twice on a terminal, else a line of standard input; no argument, as others can see those."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    text = f"Password ({length} characters at least)"
    return click.prompt(text, hide_input=True, confirmation_prompt="The same again")


@click.command("admin")
@click.argument("login")
@with_appcontext
def admin(login: str) -> None:
    """Make LOGIN an administrator; the password comes from a prompt, or from standard input."""
    length = auth.passwords().length
    try:
        db.open(True)
        uid = db.add_users(login=Login(login), pword=auth.hash_password(read_password(length), login=login), admin=True)
        db.commit()
    except (Problem, ErrorResponse) as refused:
        db.rollback()
        short = getattr(refused, "code", None) == "password_too_short"
        raise click.ClickException(refused.message + f" It needs {length} characters." * short) from None
    finally:
        db.release()
    click.echo(f"user {uid}: {login}")


PAUSES = 0.0, 0.5, 1.0, 2.0  # seconds before each try: another server may be sealing
ANCHOR = re.compile(r"\b(\d{1,18}):([0-9a-f]{64})\b")


def _sealed() -> list[str]:
    """Seal what can be sealed: the faults of doing so, and of what is not sealed by then."""
    settled, found = db.get_settled(), {"number": 0}
    for pause in PAUSES:
        time.sleep(pause)
        try:
            while db.seal_audit(most=10_000):
                pass
        except Problem as problem:
            return [f"sealing fails: {problem.message}"]
        if not (found := db.get_unsealed(settled=settled))["number"]:
            return []
    return [f"{found['number']} rows of the trail are not sealed, the first is {found['aid']}"]


def _chained() -> list[str]:
    broken = db.get_broken_seal()
    why = "link {link} is broken: row {aid} of the trail was changed or removed"
    return [why.format(**broken)] if broken else []


def _anchored(anchors: dict[int, str]) -> list[str]:
    """Compare links with the hashes that were kept of them."""
    hashes = {row["link"]: row["hash"] for row in db.list_seals(links="{" + ",".join(map(str, anchors)) + "}")}
    found = []
    for link, kept in sorted(anchors.items()):
        if hashes.get(link) != kept:
            found.append(f"link {link} is {'another one' if link in hashes else 'not there'}: the trail was rewritten or cut")
            break
    return found


@click.command("audit-verify")
@click.option("--anchor", "given", multiple=True, metavar="LINK:HASH", help="An anchor that was kept; may be repeated.")
@click.option("--anchors", "file", type=click.File(errors="replace"), help="A file that has anchors in it, such as a log.")
def audit_verify(given: tuple[str, ...], file: TextIO | None) -> None:
    """Seal what can be sealed, walk the chain of the audit trail, and name what is wrong with it.

    The last line is the anchor of all that is there: kept elsewhere, and given another time, it shows what the owner of the
    tables did to the trail meanwhile.
    """
    anchors = dict[int, str]()
    for text in (*given, *(file or ())):
        if not (found := ANCHOR.findall(text)) and text in given:
            raise click.BadParameter(f"{text} is not LINK:HASH")
        anchors |= {int(link): hash for link, hash in found}
    faults, last = [], None
    try:
        db.open(False)
        for step in (_sealed, _chained, lambda: _anchored(anchors)):
            faults += step()
        last = db.get_seal()
    except Problem as problem:
        faults.append(problem.message)
    finally:
        db.release()
    if faults:
        raise click.ClickException("\n".join(faults))
    click.echo("the trail is whole")
    if last:
        click.echo(f"anchor {last['link']}:{last['hash']}")


def init_app(app: Flask) -> None:
    """Offer the commands, and refuse to start on what is unsafe.

    :raises SystemExit: with all that is wrong (in debug mode RuntimeError); a local instance may be unsafe.
    """
    for command in (doctor, admin, audit_verify):
        app.cli.add_command(command)
    refuse(app, missing(db.queries))
    if app.config["LOCAL"]:
        found = cors.faults(app.config["CORS_ORIGINS"])
        context = click.get_current_context(silent=True)
        if context is None or context.info_name == "run":  # a server
            for path in (QUERIES, Path(app.root_path, app.config["ANODB"]["queries"])):
                found += db.faults(path)
    else:
        found, users = faults(app, app.config), open_doors(app)
        if users is None:
            app.logger.warning("the database is away: not checked for demonstration users")
        found += users or []
    refuse(app, found)


def refuse(app: Flask, found: list[str]) -> None:
    """Refuse to start with these faults, if there are any.

    :raises SystemExit: with all of them; in debug mode RuntimeError.
    """
    if found:
        why = "refusing to start:\n- " + "\n- ".join(found)
        raise RuntimeError(why) if app.debug else SystemExit(why)  # the reloader goes on after an Exception
