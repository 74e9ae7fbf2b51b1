"""Commands of the server, `flask --app app doctor | admin LOGIN | audit-verify`, and the refusal to start when unsafe."""

import getpass
import sys
from pathlib import Path

import click
from flask import Flask
from flask.cli import with_appcontext
from FlaskSimpleAuth import ErrorResponse

from engine import errors
from engine.auth import attempts, auth
from engine.db.database import db
from engine.http import cors
from engine.types import Login


def faults(app: Flask) -> list[str]:
    """What makes a deployed instance unsafe, one sentence each."""
    conf, found = app.config, []
    secret = str(conf.get("FSA_TOKEN_SECRET") or "")
    if len(secret.encode()) < 32 or len(set(secret)) < 8:
        found.append("FSA_TOKEN_SECRET has less than 256 bits (openssl rand -hex 32 makes a good one)")
    if conf["PASSWORD_COST"] < 10:
        found.append(f"PASSWORD_COST is {conf['PASSWORD_COST']}, less than 10: stolen hashes would be guessed too soon")
    if conf["PASSWORD_LENGTH"] < 8:
        found.append(f"PASSWORD_LENGTH is {conf['PASSWORD_LENGTH']}, less than 8: a password would be guessed too soon")
    if "fake" in conf["FSA_AUTH"]:
        found.append("FSA_AUTH contains fake, which trusts whoever is local")
    if app.debug or conf.get("FSA_MODE", "prod") != "prod":
        found.append("a debug mode is on (FLASK_DEBUG or FSA_MODE)")
    found += attempts.faults(conf)
    try:
        with app.app_context():
            demonstration = [login for login, password in _demonstration(app) if _opens(login, password)]
        if demonstration:
            found.append(f"demonstration users are there with their known passwords: {' '.join(demonstration)}")
    except errors.Problem:
        app.logger.warning("the database is away: not checked for demonstration users")
    finally:
        db.release()
    return found


def _demonstration(app: Flask) -> list[list[str]]:
    lines = Path(app.root_path, "users.in").read_text().splitlines()
    return [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]


def _opens(login: str, password: str) -> bool:
    user = db.get_auth(login=login)
    return bool(user and auth.passwords().context.verify(password, user["pword"]))


@click.command("doctor")
def doctor() -> None:
    """Tell whether the configuration is safe (an unsafe one does not even get here)."""
    click.echo("all is well")


def read_password() -> str:
    """A password, from a prompt or from standard input: never from an argument, which others can see."""
    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


@click.command("admin")
@click.argument("login")
@with_appcontext
def admin(login: str) -> None:
    """Make LOGIN an administrator; the password comes from a prompt, or from standard input."""
    try:
        db.open(True)
        uid = db.add_users(login=Login(login), pword=auth.hash_password(read_password()), admin=True)
        db.commit()
    except (errors.Problem, ErrorResponse) as refused:
        db.rollback()
        raise click.ClickException(refused.message) from None
    finally:
        db.release()
    click.echo(f"user {uid}: {login}")


@click.command("audit-verify")
def audit_verify() -> None:
    """Seal what can be sealed, walk the chain of the audit trail, and name the first broken link."""
    try:
        while db.seal_audit(most=10_000):
            pass
        db.open(False)
        broken = db.get_broken_seal()
    except errors.Problem as problem:
        raise click.ClickException(problem.message) from None
    finally:
        db.release()
    if broken:
        raise click.ClickException(f"link {broken['link']} is broken: row {broken['aid']} of the trail was changed or removed")
    click.echo("the trail is whole")


def init_app(app: Flask) -> None:
    """Offer the commands, and refuse to start on what is unsafe.

    :raises SystemExit: with all that is wrong; a local instance may be unsafe.
    """
    for command in (doctor, admin, audit_verify):
        app.cli.add_command(command)
    found = cors.faults(app.config["CORS_ORIGINS"])
    if found := found if app.config["LOCAL"] else found + faults(app):
        sys.exit("refusing to start:\n- " + "\n- ".join(found))
