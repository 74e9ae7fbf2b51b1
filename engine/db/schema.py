"""The two components of the schema: the version of the engine's, and the queries that it asks of the application."""

from collections.abc import Mapping
from pathlib import Path

from engine.db.statement import Statement

SQL = Path(__file__).parent.parent / "sql"
QUERIES = SQL / "queries.sql"
VERSION = max(int(path.name[:3]) for path in SQL.glob("migrations/[0-9]*.sql"))
# queries of the application that the engine calls, and their parameters; docs/engine.md says what each must do
ASKED = {
    "get_auth": "login",
    "get_auth_lock": "login",
    "get_auth_share": "login",
    "get_auth_session": "login digest",
    "get_auth_session_lock": "login digest",
    "get_auth_session_share": "login digest",
    "set_pword_rehash": "login old new",
    "add_users": "login pword admin",
    "set_epoch": "login",
    "get_users_uid": "uid",
    "add_session": "uid epoch digest salt seconds refresh address agent login request",
    "get_refresh": "digest",
    "renew_session": "old new digest salt seconds",
    "kill_session": "sid login request address",
    "list_sessions": "uid epoch current after size",
    "del_session": "uid sid",
    "set_sessions_seen": "sids",
    "del_sessions_old": "",
    "get_auth_key": "digest",
    "get_auth_key_lock": "digest",
    "get_auth_key_share": "digest",
    "list_keys": "uid after size",
    "add_key": "uid digest note scopes days",
    "del_key": "uid kid",
    "set_keys_used": "kids",
    "add_totp": "uid secret",
    "get_totp": "uid",
    "confirm_totp": "uid step texts",
    "spend_totp": "uid step",
    "spend_recovery": "uid digest",
    "del_totp": "uid",
    "get_groups": "uid",
    "add_group": "uid name",
    "del_group": "uid name",
}


def missing(queries: Mapping[str, Statement]) -> list[str]:
    """The queries that the engine asks of the application and that are not there, one sentence each.

    :param queries: all that were loaded, by name.
    """
    found = []
    for name, parameters in ASKED.items():
        wanted = f"{name}({', '.join(parameters.split())})"
        if name not in queries:
            found.append(f"the application's queries lack {wanted}, which the engine calls (docs/engine.md)")
        elif set(queries[name].parameters) != set(parameters.split()):
            has = ", ".join(queries[name].parameters)
            found.append(f"the application's query {name}({has}) is called as {wanted} by the engine (docs/engine.md)")
    return found
