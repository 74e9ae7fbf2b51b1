"""From what PostgreSQL says to what a client hears: a status, a code, the field at fault, and not a word of the driver's."""

from typing import Any

import psycopg
import pytest

from engine.db.errors import from_database
from engine.http.errors import answer, from_problem
from engine.problem import CODES, Problem

pytestmark = pytest.mark.internal


def fail(sql: Any, state: str, **options: str) -> psycopg.Error:
    """Let the server raise an error with this SQLSTATE; as psycopg gives it."""
    options = {"MESSAGE": "secret words", "DETAIL": "Key (pword)=(secret)", "ERRCODE": state} | options
    using = ", ".join(f"{name} = '{value}'" for name, value in options.items())
    with pytest.raises(psycopg.Error) as raised:
        sql(f"DO $$ BEGIN RAISE EXCEPTION USING {using}; END $$")
    assert raised.value.sqlstate == state
    return raised.value


@pytest.mark.parametrize(
    ("state", "options", "status", "code", "field"),
    [
        ("23505", {"TABLE": "stuff", "CONSTRAINT": "stuff_stuff_key"}, 409, "duplicate", "stuff"),
        ("23505", {"TABLE": "owned", "CONSTRAINT": "owned_object_owner_key"}, 409, "duplicate", "object_owner"),
        ("23503", {"TABLE": "owned", "CONSTRAINT": "owned_owner_fkey"}, 409, "still_referenced", None),
        ("23502", {"TABLE": "stuff", "COLUMN": "stuff"}, 400, "invalid_request", "stuff"),
        ("23514", {"TABLE": "stuff", "CONSTRAINT": "stuff_stuff_check"}, 400, "invalid_request", "stuff"),
        ("22003", {}, 400, "invalid_request", None),
        ("22021", {}, 400, "invalid_request", None),
        ("22025", {}, 400, "invalid_request", None),
        ("22P02", {}, 400, "invalid_request", None),
        ("54000", {}, 400, "invalid_request", None),
        ("57014", {}, 504, "timeout", None),
        ("08006", {}, 503, "unavailable", None),
        ("53300", {}, 503, "unavailable", None),
        ("55P03", {}, 503, "unavailable", None),
        ("57P01", {}, 503, "unavailable", None),
        ("57P03", {}, 503, "unavailable", None),
        ("58030", {}, 503, "unavailable", None),
        ("42501", {}, 500, "internal_error", None),
        ("42P01", {}, 500, "internal_error", None),
        ("0A000", {}, 500, "internal_error", None),
        ("P0001", {}, 500, "internal_error", None),
        ("XX000", {}, 500, "internal_error", None),
    ],
)
def test_each_error_of_the_database_has_its_status(
    sql: Any, state: str, options: dict[str, str], status: int, code: str, field: str | None
) -> None:
    problem = from_database(fail(sql, state, **options))
    assert (problem.status, problem.code, problem.field, problem.retry) == (status, code, field, False)
    assert "secret" not in problem.message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("40001", "could not serialize access"),
        ("40P01", "deadlock detected"),
        ("25006", "cannot execute INSERT in a read-only transaction"),
        ("25P03", "terminating connection due to idle-in-transaction timeout"),
        ("26000", "prepared statement does not exist"),
        ("0A000", "cached plan must not change result type"),
    ],
)
def test_what_was_undone_through_nobodys_fault_may_run_again(sql: Any, state: str, message: str) -> None:
    problem = from_database(fail(sql, state, MESSAGE=message))
    assert (problem.status, problem.code, problem.retry) == (503, "unavailable", True)
    assert problem.message == CODES[503][1]


def test_a_lost_connection_may_run_again_only_if_it_is_known_what_became_of_it() -> None:
    gone = psycopg.OperationalError("server at secret.example closed the connection")
    assert [(p.status, p.retry) for p in (from_database(gone), from_database(gone, lost=True))] == [(503, False), (503, True)]
    assert "secret" not in from_database(gone).message


def test_the_schema_speaks_to_the_client_by_a_state_of_its_own(sql: Any) -> None:
    problem = from_database(fail(sql, "ST409", MESSAGE="the last administrator stays", HINT="last_administrator"))
    assert (problem.status, problem.message, problem.code) == (409, "the last administrator stays", "last_administrator")


@pytest.fixture
def _request() -> Any:
    from app import app

    with app.test_request_context("/stuff"):
        yield


@pytest.mark.usefixtures("_request")
@pytest.mark.parametrize("status", CODES)
def test_every_status_has_its_code_and_message(status: int) -> None:
    response = from_problem(Problem(status))
    assert response.status_code == status
    assert response.json == {"error": CODES[status][1], "status": status, "code": CODES[status][0], "request_id": None}
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.usefixtures("_request")
@pytest.mark.parametrize(("given", "told"), [(418, 400), (451, 400), (502, 500), (599, 500)])
def test_a_status_that_is_not_ours_becomes_one_that_is(given: int, told: int) -> None:
    assert answer("why", given).status_code == told


@pytest.mark.usefixtures("_request")
def test_a_field_at_fault_is_named_apart() -> None:
    body: Any = from_problem(Problem(409, "stuff is already taken", "duplicate", "stuff")).json
    assert body["errors"] == [{"field": "stuff", "message": "stuff is already taken"}]
