"""Settings: one table holds what the code reads, what the documentation says, and what stops the start."""

import ast
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE
from flask import Flask

from engine import settings

pytestmark = pytest.mark.internal
GIVEN = {"VERSION", "SCHEMA", "OWNERS"}  # by app.py: no settings


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a configuration of this text, or of the environment's alone, into an application called small."""
    for row in settings.table().values():
        monkeypatch.delenv(row.env or "APP_SECRET", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(settings, "_declared", {})

    def load(text: str | None = "", debug: bool = False) -> Any:
        if text is None:
            monkeypatch.delenv("APP_CONFIG", raising=False)
        else:
            (tmp_path / "some.conf").write_text(text)
            monkeypatch.setenv("APP_CONFIG", str(tmp_path / "some.conf"))
        app = Flask("small")
        app.debug = debug
        settings.load(app)
        return app.config

    return load


def faults(load: Any, text: str) -> list[str]:
    with pytest.raises(SystemExit) as refused:
        load(text)
    first, *rest = str(refused.value).split("\n- ")
    assert first == "refusing to start:"
    return rest


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_an_empty_configuration_has_all_defaults(load: Any, text: str | None) -> None:
    conf = load(text)
    assert [row.fault(conf[row.name]) for row in settings.table().values()] == [None] * len(settings.table())
    assert (conf["LOCAL"], conf["FSA_REALM"], conf["CORS_ORIGINS"], conf["LOGIN_LIMITS"]) == (False, "small", [], {})
    assert conf["ANODB"] == {"db": "postgres", "conn": None, "queries": "queries.sql", "application_name": "small"}
    conf["CORS_ORIGINS"].append("changed")
    conf["LOGIN_LIMITS"]["changed"] = 1
    assert (load()["CORS_ORIGINS"], load()["LOGIN_LIMITS"]) == ([], {})


def test_a_configuration_that_is_not_there_is_told(load: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("APP_CONFIG", "/nowhere/some.conf")
    app = Flask("small")
    with caplog.at_level(logging.WARNING):
        settings.load(app)
    assert app.config["LOCAL"] is False
    assert "APP_CONFIG names no file, so defaults hold: /nowhere/some.conf." in caplog.text


def test_what_is_given_replaces_a_default(load: Any) -> None:
    conf = load(
        "DATABASE_POOL = 2\nANODB = {'conn': 'dbname=x'}\nFSA_MODE = 'dev'\nTESTING = True\nlower = 1\nBODY_TIMEOUT = 3"
    )
    assert (conf["DATABASE_POOL"], conf["FSA_MODE"], conf["TESTING"], conf["BODY_TIMEOUT"]) == (2, "dev", True, 3)
    assert conf["ANODB"] == {"db": "postgres", "conn": "dbname=x", "queries": "queries.sql", "application_name": "small"}


def test_secrets_come_from_the_environment_unless_given(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_SECRET", "of the environment")
    assert load()["FSA_TOKEN_SECRET"] == "of the environment"
    assert load("FSA_TOKEN_SECRET = 'given'")["FSA_TOKEN_SECRET"] == "given"


def test_a_value_of_the_environment_is_checked(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_SIZE", "many")
    settings.declare_setting("SIZE", int, 1, "Size of it.", env="SMALL_SIZE")
    assert faults(load, "") == ["SIZE should be integer, and is 'many'. It comes from the environment's SMALL_SIZE."]


def test_old_names_are_accepted_with_a_warning(load: Any, caplog: Any) -> None:
    conf = load("DATABASE_PATIENCE = 2.0\nDATABASE_POOLED = True\nPROXIES = 1")
    assert (conf["DATABASE_TIMEOUT"], conf["DATABASE_POOLER"], conf["TRUSTED_PROXIES"]) == (2.0, True, 1)
    assert not {"DATABASE_PATIENCE", "DATABASE_POOLED", "PROXIES"} & conf.keys()
    for old, new in re.findall(r"(\w+) is called (\w+) now", caplog.text):
        assert f"{old} is called {new} now; the old name is accepted in this version alone." in caplog.text


def test_an_old_name_beside_the_new_one_is_refused(load: Any) -> None:
    assert faults(load, "PROXIES = 1\nTRUSTED_PROXIES = 0") == [
        "PROXIES is the old name of TRUSTED_PROXIES, which is there as well: remove PROXIES."
    ]


def test_all_faults_are_told_at_once(load: Any) -> None:
    found = faults(
        load, "DATABASE_POOl = 9\nXYZZY = 1\nDATABASE_POOL = '8'\nPASSWORD_COST = 99\nPROXIES = -1\nTRACES_RATIO = 1.5"
    )
    assert sorted(found) == [
        "DATABASE_POOL should be integer, 1 at least, and is '8'.",
        "PASSWORD_COST should be integer, 4 at least, 31 at most, and is 99.",
        "TRACES_RATIO should be number, 0 at least, 1 at most, and is 1.5.",
        "TRUSTED_PROXIES should be integer, 0 at least, 100 at most, and is -1.",
        "XYZZY is no setting, see docs/settings.md.",
    ]
    assert faults(load, "DATABASE_POOLS = 9") == ["DATABASE_POOLS is no setting; did you mean DATABASE_POOL?"]


def test_in_debug_mode_the_reloader_goes_on(load: Any) -> None:
    with pytest.raises(RuntimeError, match="XYZZY"):
        load("XYZZY = 1", debug=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOCAL", 1),
        ("DATABASE_POOL", True),
        ("DATABASE_POOL", 0),
        ("DATABASE_TIMEOUT", float("nan")),
        ("DATABASE_TIMEOUT", float("inf")),
        ("DATABASE_TIMEOUT", 0),
        ("DATABASE_STALE", -0.1),
        ("DATABASE_SLOW", "0.5"),
        ("CORS_ORIGINS", "https://shop.example"),
        ("CORS_ORIGINS", [1]),
        ("LOG_LEVEL", "LOUD"),
        ("FSA_TOKEN_TYPE", "paseto"),
        ("LOGIN_LIMITS", {"everybody": 1}),
        ("SYSLOG", ("host", "port")),
    ],
)
def test_wrong_types_choices_and_bounds_are_faults(name: str, value: Any) -> None:
    assert str(settings.table()[name].fault(value)).endswith(f", and is {value!r}.")


@pytest.mark.parametrize(("name", "value"), [("SYSLOG", ("host", 514)), ("DATABASE_SLOW", None), ("LOGIN_LIMITS", {"pair": 1})])
def test_values_of_each_kind_are_accepted(name: str, value: Any) -> None:
    assert settings.table()[name].fault(value) is None


def test_the_value_of_a_secret_setting_is_never_shown() -> None:
    for row in settings.table().values():
        if row.secret:
            assert row.fault(b"hunter2") == f"{row.name} should be {row.describe()}. Its value is not shown."


def test_an_application_declares_settings_of_its_own(load: Any) -> None:
    for _ in range(2):
        settings.declare_setting("SHOP_ROWS", int, 10, "Rows of a page.", least=1)
    with pytest.raises(ValueError, match="SHOP_ROWS is a setting already"):
        settings.declare_setting("SHOP_ROWS", int, 11, "Rows of a page.")
    with pytest.raises(ValueError, match="LOCAL is a setting already"):
        settings.declare_setting("LOCAL", int, 11, "Rows of a page.")
    assert (load()["SHOP_ROWS"], load("SHOP_ROWS = 3")["SHOP_ROWS"]) == (10, 3)
    assert faults(load, "SHOP_ROWS = 0") == ["SHOP_ROWS should be integer, 1 at least, and is 0."]
    assert faults(load, "SHOP_ROW = 3") == ["SHOP_ROW is no setting; did you mean SHOP_ROWS?"]


# what the code reads, and what is said


def read_in_code() -> set[str]:
    """The names that are read as conf["NAME"] or config["NAME"]."""
    names = set[str]()
    for path in [*HERE.glob("*.py"), *HERE.glob("routes/*.py"), *HERE.glob("engine/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.ctx, ast.Load):
                owner = ast.unparse(node.value)
                if re.search(r"\bconf(ig)?$", owner) and str(node.slice.value).isupper():
                    names.add(str(node.slice.value))
    return names


def test_each_setting_is_used_and_each_name_that_is_read_is_a_setting() -> None:
    used, rows = read_in_code(), settings.table().keys()
    library = {name for name in rows if name == "FSA_SECURE"}  # FlaskSimpleAuth reads it
    assert rows - library <= used
    assert {name for name in used - rows - GIVEN if not name.startswith("FSA_")} == set()


def test_defaults_stand_in_the_table_alone() -> None:
    for path in HERE.glob("engine/**/*.py"):
        for name in re.findall(r'conf(?:ig)?\.(?:get|setdefault)\("([A-Z_]+)"', path.read_text()):
            assert name not in settings.table(), (path, name)


def test_the_help_is_short_and_says_the_unit() -> None:
    for row in settings.table().values():
        assert row.help.endswith("."), row.name
        if row.kind in (float, float | None) and row.name != "TRACES_RATIO":
            assert re.match(r"(Seconds|Minutes) ", row.help), row.name


def test_app_conf_says_what_the_table_says() -> None:
    text = (HERE / "app.conf").read_text()
    demonstration = {"LOCAL", "PASSWORD_LENGTH", "ANODB"}
    for name, value in re.findall(r"^([A-Z_]+) = (.*)$", text, re.MULTILINE):
        row = settings.table()[name]
        assert f"\n\n{settings.comment(row)}{name} = " in text
        if name not in demonstration:
            assert ast.literal_eval(value) == (list(row.default) if isinstance(row.default, tuple) else row.default), name
