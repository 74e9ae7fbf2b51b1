"""The console in Chromium, by `make check.console`: on a server of the tests, each test from the demonstration data.

CHROMIUM names the browser; the screenshots of the last run are in .local/console/.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HERE, basic
from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright

BASE = os.environ["FLASK_TESTER_APP"]
PICTURES = HERE / ".local" / "console"
WIDE: Any = {"width": 1280, "height": 800}
NARROW: Any = {"width": 390, "height": 780}
REFUSALS = re.compile(r"Failed to load resource: (the server responded with a status of [45]|net::ERR_FAILED)")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"])


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of the console; what it logs, a violation of the policy say, fails the test."""
    page = browser.new_page(viewport=WIDE)
    said: list[str] = []
    page.set_default_timeout(8000)
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(BASE + "/console")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    yield page
    page.close()
    assert [text for text in said if not REFUSALS.match(text)] == []


def log_in(page: Page, login: str = "calvin", password: str = "hobbes", opened: bool = False) -> None:
    if not opened:
        page.get_by_role("button", name="Log in").click()
    dialog = page.get_by_role("dialog", name="Log in")
    dialog.get_by_label("login").fill(login)
    dialog.get_by_label("password").fill(password)
    dialog.get_by_role("button", name="Log in").click()


def go(page: Page, path: str) -> None:
    page.evaluate("hash => { location.hash = hash }", path)


def open_row(page: Page, name: str) -> Any:
    page.get_by_role("link", name=name, exact=True).click()
    panel = page.get_by_role("complementary", name=name, exact=True)
    expect(panel).to_be_visible()
    return panel


def column(page: Page, name: str) -> Any:
    return page.locator(f"tbody td[data-label={name}]").all_inner_texts()


def fill_up(sql: Any, number: int = 60) -> None:
    sql("INSERT INTO Stuff(stuff) SELECT 'Thing ' || to_char(n, 'FM0000') FROM generate_series(1, %s) AS n", number)


def test_create(page: Page, sql: Any) -> None:
    page.get_by_role("button", name="New").click()
    page.get_by_label("stuff", exact=True).fill("Clock")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("complementary", name="Stuff 3")).to_contain_text("3")
    expect(page.get_by_role("cell", name="Clock")).to_be_visible()
    assert sql("SELECT stuff FROM Stuff WHERE sid = 3") == [("Clock",)]


def test_a_fault_stands_beside_its_field_and_has_the_focus(page: Page) -> None:
    page.get_by_role("button", name="New").click()
    field = page.get_by_label("stuff", exact=True)
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field.bad")).to_contain_text("must not be empty")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("Chair")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field.bad")).to_contain_text("already taken")


def test_a_nested_members_fault_stands_beside_it(page: Page) -> None:
    log_in(page)
    go(page, "/users")
    page.get_by_role("button", name="users-mgt…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("login").fill("moe")
    dialog.get_by_role("button", name="Send").click()
    expect(dialog.locator(".field.bad")).to_contain_text("must not be empty")
    expect(dialog.get_by_label("password")).to_be_focused()


def test_create_once_though_the_answer_is_lost(page: Page, sql: Any) -> None:
    keys = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/stuff", lambda route: lose(route) if route.request.method == "POST" else route.continue_())
    page.get_by_role("button", name="New").click()
    page.get_by_label("stuff", exact=True).fill("Clock")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
    page.get_by_role("button", name="Again", exact=True).click()
    expect(page.get_by_text("3 was created already.")).to_be_visible()
    assert len(set(keys)) == 1
    assert sql("SELECT count(*) FROM Stuff") == [(3,)]


def test_edit_with_the_version_that_was_read(page: Page, sql: Any) -> None:
    panel = open_row(page, "Stuff 1")
    panel.get_by_label("stuff", exact=True).fill("Armchair")
    with page.expect_request(lambda request: request.method == "PATCH") as caught:
        panel.get_by_role("button", name="Save").click()
    assert caught.value.headers["if-match"] == '"1"'
    expect(page.get_by_role("cell", name="Armchair")).to_be_visible()
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [("Armchair",)]


@pytest.mark.parametrize(("choice", "kept"), [("mine", "Armchair"), ("theirs", "Sofa"), ("before", "Chair")])
def test_conflict(page: Page, sql: Any, choice: str, kept: str) -> None:
    panel = open_row(page, "Stuff 1")
    panel.get_by_label("stuff", exact=True).fill("Armchair")
    sql("UPDATE Stuff SET stuff = 'Sofa' WHERE sid = 1")
    panel.get_by_role("button", name="Save").click()
    form = page.get_by_role("form", name="Conflict")
    for word in ("Armchair", "Chair", "Sofa"):
        expect(form.get_by_text(word, exact=True)).to_be_visible()
    page.screenshot(path=PICTURES / "conflict.png")
    form.get_by_role("radio", name=choice).check()
    form.get_by_role("button", name="Save what is chosen").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert sql("SELECT stuff FROM Stuff WHERE sid = 1") == [(kept,)]


def test_delete(page: Page, sql: Any) -> None:
    open_row(page, "Stuff 2").get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 is deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="Stuff 2")).to_have_count(0)
    assert sql("SELECT sid FROM Stuff") == [(1,)]


def test_a_refusal_is_shown_where_it_was_asked_for(page: Page) -> None:
    log_in(page)
    go(page, "/users")
    open_row(page, "Users 2").get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("still referenced")


def test_what_is_below_a_row_is_offered_with_it(page: Page) -> None:
    log_in(page)
    go(page, "/users")
    open_row(page, "Users 1").get_by_role("button", name="List the groups of a user…").click()
    page.get_by_role("dialog").get_by_role("button", name="Ask").click()
    expect(page.get_by_role("dialog").locator("output")).to_contain_text("ADMIN")


def test_what_one_may_not_do_is_not_offered(page: Page) -> None:
    links = page.get_by_role("navigation").get_by_role("link")
    expect(links.filter(has_text="Users")).to_have_count(0)
    log_in(page, "hobbes", "susie")
    expect(links.filter(has_text="Owned, mine")).to_be_visible()
    assert not {"Users", "Audit", "Overview"} & set(links.all_inner_texts())
    go(page, "/users")
    expect(page.get_by_text("You have no right to this.")).to_be_visible()


def test_of_ones_own(page: Page, sql: Any) -> None:
    log_in(page, "hobbes", "susie")
    page.get_by_role("link", name="Owned, mine").click()
    expect(page.locator("tbody td[data-label=object]")).to_have_text(["Box"])
    page.get_by_role("button", name="New").click()
    page.get_by_label("object", exact=True).fill("Ball")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("tbody td[data-label=object]")).to_have_text(["Box", "Ball"])
    assert sql("SELECT owner FROM Owned WHERE object = 'Ball'") == [(2,)]


def test_another_page_begins_at_its_top(page: Page, sql: Any) -> None:
    fill_up(sql)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(62)
    page.mouse.wheel(0, 900)
    expect(page.get_by_role("heading", name="Stuff")).not_to_be_in_viewport()
    go(page, "@system")
    expect(page.get_by_role("heading", name="System")).to_be_in_viewport()


def test_page_both_ways(page: Page, sql: Any) -> None:
    fill_up(sql)
    go(page, "/stuff?limit=25")
    expect(page.locator("tbody tr")).to_have_count(25)
    seen = [column(page, "sid")]
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
        expect(page.locator("tbody td[data-label=sid]").first).to_have_text(str(int(seen[-1][-1]) + 1))
        seen.append(column(page, "sid"))
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    assert sum(map(len, seen)) == 62
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("tbody td[data-label=sid]").first).to_have_text("26")
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("tbody td[data-label=sid]").first).to_have_text("1")


def test_filter_sort_and_count(page: Page, sql: Any) -> None:
    fill_up(sql)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.get_by_role("search").get_by_label("filter").fill("Thing 000%")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(9)
    page.get_by_role("button", name="stuff", exact=True).click()
    page.get_by_role("button", name="stuff", exact=True).click()
    expect(page.locator("tbody td[data-label=stuff]").first).to_have_text("Thing 0009")
    expect(page.get_by_role("columnheader", name="stuff")).to_have_attribute("aria-sort", "descending")
    assert not any("prefer" in request.headers for request in asked)
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_text("9 in all")).to_be_visible()
    page.reload()
    expect(page.locator("tbody td[data-label=stuff]").first).to_have_text("Thing 0009")


def test_an_address_is_decoded_once(page: Page, sql: Any) -> None:
    sql("INSERT INTO Stuff(stuff) VALUES ('100%41 wool')")
    page.get_by_role("search").get_by_label("filter").fill("100\\%41%")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("tbody td[data-label=stuff]")).to_have_text(["100%41 wool"])


def test_rows_change_as_others_change_them(page: Page, sql: Any) -> None:
    with page.expect_response(lambda answer: answer.url.endswith("/stuff") and "authorization" in answer.request.headers):
        log_in(page)
    expect(page.locator("table[aria-busy=false]")).to_be_visible()
    sql("UPDATE Stuff SET stuff = 'Throne' WHERE sid = 1")
    sql("INSERT INTO Stuff(stuff) VALUES ('Bench')")
    expect(page.get_by_role("cell", name="Throne")).to_be_visible(timeout=8000)
    expect(page.locator("tr.fresh")).to_have_count(2)
    page.get_by_role("search").get_by_label("filter").press_sequentially("Thr")
    sql("UPDATE Stuff SET stuff = 'Armchair' WHERE sid = 1")
    expect(page.get_by_role("cell", name="Armchair")).to_be_visible(timeout=8000)
    expect(page.get_by_role("search").get_by_label("filter")).to_have_value("Thr")


def test_many_at_once_line_by_line(page: Page, sql: Any) -> None:
    page.get_by_role("button", name="batch…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("items").fill("Bed\nDesk\nLamp")
    dialog.get_by_role("button", name="Send").click()
    expect(dialog.locator(".field.bad")).to_contain_text("[1] is already taken")
    dialog.get_by_label("items").fill("Bed\nLamp")
    dialog.get_by_role("button", name="Send").click()
    expect(dialog.locator("output")).to_contain_text("sids")
    assert sql("SELECT stuff FROM Stuff ORDER BY sid") == [("Chair",), ("Desk",), ("Bed",), ("Lamp",)]


def test_csv_out_and_in(page: Page, sql: Any, tmp_path: Any) -> None:
    fill_up(sql, 1200)
    with page.expect_download() as caught:
        page.get_by_role("button", name="CSV", exact=True).click()
    lines = caught.value.path().read_text().splitlines()
    assert (len(lines), lines[:2], lines[-1]) == (1203, ["sid,stuff", "1,Chair"], "1202,Thing 1200")
    file = tmp_path / "new.csv"
    file.write_text('stuff\r\n"Bed, old"\r\nLamp\r\n')
    page.get_by_role("button", name="batch…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("or from a CSV file").set_input_files(file)
    dialog.get_by_role("button", name="Send").click()
    expect(dialog.locator("output")).to_contain_text("sids")
    assert sql("SELECT stuff FROM Stuff WHERE sid > 1202 ORDER BY sid") == [("Bed, old",), ("Lamp",)]


def test_a_lost_log_in_asks_again_and_the_form_stays(page: Page, sql: Any) -> None:
    log_in(page, "hobbes", "susie")
    page.get_by_role("link", name="Owned, mine").click()
    page.get_by_role("button", name="New").click()
    page.get_by_label("object", exact=True).fill("Ball")
    sql("UPDATE Utilisateur SET epoch = epoch + 1 WHERE login = 'hobbes'")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog")).to_contain_text("nothing is lost")
    log_in(page, "hobbes", "susie", opened=True)
    expect(page.get_by_role("cell", name="Ball")).to_be_visible()


def test_a_wrong_password_is_told(page: Page) -> None:
    log_in(page, password="wrong")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("invalid password")
    log_in(page, opened=True)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def test_too_many_attempts_count_down(page: Page) -> None:
    for _ in range(5):
        page.request.get(BASE + "/login", headers=basic("susie", "wrong"))
    log_in(page, "susie", "derkins")  # of which no process remembers that it is right
    expect(page.get_by_role("dialog").get_by_role("button", name=re.compile(r"Again in \d+ s"))).to_be_disabled()


def test_503_counts_down_and_goes_on(page: Page) -> None:
    left = [2]

    def away(route: Route) -> None:
        left[0] -= 1
        if left[0] >= 0:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "the database is away", "status": 503})
        else:
            route.continue_()

    page.route("**/stuff?*", away)
    go(page, "/stuff?sort=-sid")
    expect(page.get_by_text(re.compile(r"asks to wait: \d s"))).to_be_visible()
    expect(page.locator("tbody td[data-label=sid]").first).to_have_text("2")


def test_log_out(page: Page) -> None:
    log_in(page)
    with page.expect_response(lambda answer: answer.request.method == "GET" and "/metrics" in answer.url) as caught:
        page.get_by_role("link", name="Overview").click()
    token = caught.value.request.headers["authorization"]
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")[:2] == [0, 0]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("navigation").get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_role("link", name="Users")).to_have_count(0)
    assert page.request.get(BASE + "/whoami", headers={"Authorization": token}).status == 401


def test_the_curl_of_each_action_does_the_same(page: Page, sql: Any) -> None:
    page.get_by_role("button", name="New").click()
    page.get_by_label("stuff", exact=True).fill("Bob's bed")
    panel = page.get_by_role("complementary")
    panel.get_by_text("curl", exact=True).click()
    command = panel.locator("pre").inner_text()
    assert os.system(command.replace("KEY-OF-THIS-REQUEST", "1") + " -sf >/dev/null") == 0  # noqa: S605
    assert sql("SELECT stuff FROM Stuff WHERE sid = 3") == [("Bob's bed",)]


def test_the_trail_shows_what_changed(page: Page, sql: Any) -> None:
    sql("UPDATE Stuff SET stuff = 'Sofa' WHERE sid = 1")
    log_in(page)
    page.get_by_role("link", name="Audit").click()
    row = page.locator("tbody tr").filter(has_text="Sofa")
    expect(row.locator("del").filter(has_text="Chair")).to_be_visible()
    expect(row.locator("ins").filter(has_text="Sofa")).to_be_visible()


def test_a_row_has_its_history(page: Page, sql: Any) -> None:
    sql("UPDATE Stuff SET stuff = 'Sofa' WHERE sid = 1")
    log_in(page)
    open_row(page, "Stuff 1")
    lines = page.locator(".history .badge")
    expect(lines).to_have_text(["UPDATE", "INSERT"])


def test_the_overview_is_drawn(page: Page) -> None:
    log_in(page)
    page.get_by_role("link", name="Overview").click()
    for title in ("Requests", "Errors", "Latency", "Database sessions", "Attempts at passwords", "At the door"):
        expect(page.get_by_role("img", name=re.compile(title))).to_be_visible(timeout=15000)
    assert len(page.locator("path.line.c0").first.get_attribute("d") or "") > 5


def test_by_keyboard_alone(page: Page, sql: Any) -> None:
    press = page.keyboard.press

    def reach(word: str) -> None:
        """Go on by Tab until what has the focus is called so."""
        for _ in range(60):
            press("Tab")
            name = "e => (e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent).trim()"
            if page.evaluate(f"({name})(document.activeElement)") == word:
                return
        pytest.fail(f"no way to {word}")

    reach("Log in")
    press("Enter")
    expect(page.get_by_role("dialog").get_by_label("login")).to_be_focused()
    page.keyboard.type("calvin")
    press("Tab")
    page.keyboard.type("hobbes")
    press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    press("n")
    expect(page.get_by_role("complementary")).to_be_visible()
    reach("stuff")
    page.keyboard.type("Clock")
    press("Enter")
    expect(page.get_by_role("complementary", name="Stuff 3")).to_be_visible()
    press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)
    press("/")
    page.keyboard.type("Cl%")
    press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    reach("Stuff 3")
    press("Enter")
    expect(page.get_by_role("complementary", name="Stuff 3")).to_be_visible()
    reach("Delete…")
    press("Enter")
    reach("Delete")
    press("Enter")
    expect(page.get_by_text("3 is deleted.")).to_be_visible()
    assert sql("SELECT count(*) FROM Stuff") == [(2,)]


def test_below_a_prefix(browser: Browser) -> None:
    page = browser.new_page()
    page.route("**/some/api/**", lambda route: route.continue_(url=route.request.url.replace("/some/api/", "/")))
    page.goto(BASE + "/some/api/console")
    open_row(page, "Stuff 1").get_by_label("stuff", exact=True).fill("Armchair")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("cell", name="Armchair")).to_be_visible()
    page.close()


@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(page: Page, sql: Any, size: str, scheme: Any) -> None:
    """No serious fault by axe, nothing wider than the screen."""
    fill_up(sql, 30)
    log_in(page)
    expect(page.get_by_role("button", name="Log out")).to_have_count(1)
    page.set_viewport_size(WIDE if size == "wide" else NARROW)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    hashes = page.evaluate("[...document.querySelectorAll('nav a[href^=\"#\"]')].map(a => a.getAttribute('href'))")
    assert len(hashes) >= 8
    for place in [*hashes, "#/stuff?.row=1", "#/users?.row=2", "#/audit?.row=3", "#/users?.new=1"]:
        go(page, place[1:])
        page.wait_for_timeout(600)
        page.screenshot(path=PICTURES / f"{scheme}-{size}-{re.sub(r'[^a-z0-9]+', '-', place).strip('-')}.png")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in found] == [], place
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


def resources(page: Page) -> Any:
    """Every list of the document that one may create in, as the console itself finds them."""
    return page.evaluate(
        """async () => {
             const { session } = await import(document.baseURI.replace(/console.*/, 'console/api.js'));
             return session.model.lists.filter(list => list.create).map(list => list.op.path);
           }"""
    )


def test_every_resource_of_the_document_has_its_page_and_its_form(page: Page) -> None:
    log_in(page)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    found = resources(page)
    assert {"/stuff", "/users", "/owned/{uid}"} <= set(found)
    for path in found:
        go(page, path)
        page.get_by_role("button", name="New").click()
        expect(page.get_by_role("complementary").get_by_role("button", name="Create")).to_be_visible()


def test_a_resource_added_tomorrow_is_there_tomorrow(page: Page, browser: Browser) -> None:
    """Of a document that no route here makes: another list, with its item, its form and its rows."""
    row: Any = {
        "type": "object",
        "properties": {
            "wid": {"type": "integer"},
            "made": {"type": "string", "format": "date-time"},
            "colour": {"type": "string", "enum": ["red", "blue"]},
        },
    }
    body = {
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["colour"], "properties": {"colour": row["properties"]["colour"]}}
            }
        }
    }
    done = {"responses": {"204": {"description": ""}}, "security": []}
    content = {"application/json": {"schema": {"type": "array", "items": row}}}
    key = {"name": "wid", "in": "path", "required": True, "schema": {"type": "integer"}}
    document = {
        "openapi": "3.1.1",
        "info": {"title": "tomorrow", "version": "1"},
        "paths": {
            "/widgets": {
                "get": {"responses": {"200": {"content": content}}, "security": []},
                "post": {"requestBody": body, "responses": {"201": {"description": ""}}, "security": []},
            },
            "/widgets/{wid}": {
                "get": {"parameters": [key], "responses": {"200": {"content": {"application/json": {"schema": row}}}}},
                "put": {"parameters": [key], "requestBody": body, **done},
                "delete": {"parameters": [key], **done},
            },
        },
    }
    one = {"wid": 7, "made": "2026-01-31T12:00:00Z", "colour": "red"}
    other = browser.new_page(viewport=WIDE)
    other.route("**/openapi.json", lambda route: route.fulfill(json=document))
    other.route(
        "**/widgets",
        lambda route: route.fulfill(json=[one] if route.request.method == "GET" else {"wid": 8, "secret": "shown once"}),
    )
    other.route(
        "**/widgets/*", lambda route: route.fulfill(json=one) if route.request.method == "GET" else route.fulfill(status=204)
    )
    other.goto(BASE + "/console")
    expect(other.get_by_role("columnheader")).to_have_text(["wid", "made", "colour"])
    panel = open_row(other, "Widgets 7")
    panel.get_by_label("colour").select_option("blue")
    with other.expect_request(lambda request: request.method == "PUT") as caught:
        panel.get_by_role("button", name="Save").click()
    assert caught.value.post_data_json == {"colour": "blue"}
    other.get_by_role("button", name="New").click()
    other.get_by_role("complementary").get_by_role("button", name="Create").click()
    expect(other.get_by_text("shown once")).to_be_visible()
    other.close()
