"""What a client may rely on with /stuff."""

import base64
import csv
import io
import json
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import below, link


def fields(response: Any) -> list[str]:
    return [fault["field"] for fault in response.json["errors"]]


def fill(sql: Any, number: int) -> None:
    """Replace stuff by `number` rows whose order by text is not that by key."""
    sql("TRUNCATE Stuff RESTART IDENTITY")
    sql("INSERT INTO Stuff(stuff) SELECT 'n' || (i * 7 %% 1009) || ' of ' || i FROM generate_series(1, %s) AS i", number)


def test_a_fresh_instance_has_a_chair_and_a_desk(client: Any) -> None:
    assert client.get("/stuff", 200).json == [{"sid": 1, "stuff": "Chair"}, {"sid": 2, "stuff": "Desk"}]


@pytest.mark.parametrize("how", ["query", "data", "json"])
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("C%", ["Chair"]),
        ("A%", []),
        ("%", ["Chair", "Desk"]),
        ("_e%", ["Desk"]),
        ("chair", []),
        ("", ["Chair", "Desk"]),
        ("Desk", ["Desk"]),
    ],
)
def test_a_filter_is_a_like_pattern_however_it_comes(client: Any, how: str, pattern: str, found: list[str]) -> None:
    if how == "query":
        response = client.get(f"/stuff?filter={quote(pattern)}", 200)
    else:
        response = client.get("/stuff", 200, **{how: {"filter": pattern}})
    assert [row["stuff"] for row in response.json] == found


@pytest.mark.parametrize("pattern", ["\\", "C%\\", "C\\\\\\"])
def test_a_pattern_that_ends_with_its_escape_is_refused(client: Any, pattern: str) -> None:
    assert fields(client.get("/stuff", 400, json={"filter": pattern})) == ["filter"]


def test_an_escaped_percent_is_a_percent(client: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "100%"})
    client.post("/stuff", 201, json={"stuff": "100 x"})
    assert [row["stuff"] for row in client.get("/stuff", 200, json={"filter": "100\\%"}).json] == ["100%"]
    assert client.get("/stuff", 200, json={"filter": "%\\\\"}).json == []


def test_the_worked_example(client: Any) -> None:
    response = client.post("/stuff", 201, data={"stuff": "Clock"})
    assert response.json == {"sid": 3}
    assert below(response.headers["Location"]) == "/stuff/3"
    assert client.post("/stuff", 409, data={"stuff": "Clock"}).json["code"] == "duplicate"
    assert client.post("/stuff", 400).json["error"] == 'parameter "stuff" is missing'
    client.put("/stuff/3", 204, data={"stuff": "Bed"})
    assert client.get("/stuff/3", 200).json == {"sid": 3, "stuff": "Bed"}
    client.delete("/stuff/2", 204)
    client.delete("/stuff/2", 404)
    client.get("/stuff/5432", 404)


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_change_is_seen_and_its_conflicts_are_told(client: Any, method: str) -> None:
    change = getattr(client, method)
    assert change("/stuff/1", 204, json={"stuff": "Stool"}).text == ""
    assert client.get("/stuff/1", 200).json["stuff"] == "Stool"
    change("/stuff/1", 204, json={"stuff": "Stool"})
    change("/stuff/1", 409, json={"stuff": "Desk"})
    change("/stuff/9", 404, json={"stuff": "Nine"})
    change("/stuff/1", 400, json={})
    assert client.get("/stuff/1", 200).json["stuff"] == "Stool"


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
@pytest.mark.parametrize(
    "sid", ["0", "-1", "3", "01", "0x1", "1.0", "abc", "%31%30", "2147483647", "2147483648", "9" * 30, "1%00", "é"]
)
def test_no_such_key_is_not_found(client: Any, method: str, sid: str) -> None:
    kwargs = {"json": {"stuff": "x"}} if method in ("put", "patch") else {}
    assert getattr(client, method)(f"/stuff/{sid}", 404, **kwargs).json["code"] == "not_found"


@pytest.mark.parametrize(
    "stuff",
    ["", "a\0b", "\ud800", "x" * 513, None, 5, 1.5, True, ["x"], {"x": 1}],
    ids=["empty", "NUL", "surrogate", "long", "null", "int", "float", "bool", "list", "object"],
)
@pytest.mark.parametrize(("method", "path"), [("post", "/stuff"), ("put", "/stuff/1"), ("patch", "/stuff/1")])
def test_what_is_no_text_is_refused(raw: Any, method: str, path: str, stuff: Any) -> None:
    response = raw(method.upper(), path, json.dumps({"stuff": stuff}).encode(), Content_Type="application/json")
    assert response.status_code == 400
    assert fields(response) == ["stuff"]


@pytest.mark.parametrize(
    "stuff", ["x", "x" * 512, "Ünïcødé ✓ 🦆", "'; DROP TABLE Stuff; --", "100%", "a\nb\tc", "null", " ", "\U0010ffff" * 512]
)
def test_any_text_comes_back_as_it_went(client: Any, stuff: str) -> None:
    for kind in ("json", "data"):
        sid = client.post("/stuff", 201, **{kind: {"stuff": stuff}}).json["sid"]
        assert client.get(f"/stuff/{sid}", 200).json["stuff"] == stuff
        client.delete(f"/stuff/{sid}", 204)


# lists


@pytest.mark.parametrize("sort", ["sid", "-sid", "stuff", "-stuff"])
@pytest.mark.parametrize("pattern", [None, "n%"])
@pytest.mark.parametrize(("rows", "limit"), [(0, 5), (1, 1), (5, 5), (6, 5), (11, 5), (3, 1)])
def test_pages_are_the_list_in_pieces(client: Any, sql: Any, sort: str, pattern: str | None, rows: int, limit: int) -> None:
    fill(sql, rows)
    path: str | None = f"/stuff?limit={limit}&sort={sort}" + (f"&filter={quote(pattern)}" if pattern else "")
    pages = []
    while path:
        response = client.get(path, 200)
        pages.append(response.json)
        path = link(response)
    assert [len(page) for page in pages] == [limit] * (rows // limit) + ([rows % limit] if rows % limit or not rows else [])
    key = sort.lstrip("-")
    assert [row for page in pages for row in page] == [
        {"sid": sid, "stuff": stuff}
        for sid, stuff in sql(f"SELECT sid, stuff FROM Stuff ORDER BY {key} {'DESC' if sort[0] == '-' else ''}")
    ]


def test_without_a_limit_a_page_has_100_rows(client: Any, sql: Any) -> None:
    fill(sql, 101)
    first = client.get("/stuff", 200)
    assert len(first.json) == 100
    assert [row["sid"] for row in client.get(link(first), 200).json] == [101]


def test_a_row_removed_between_two_pages_changes_nothing_else(client: Any, sql: Any) -> None:
    fill(sql, 6)
    after = link(client.get("/stuff?limit=3", 200))
    sql("DELETE FROM Stuff WHERE sid IN (3, 4)")
    assert [row["sid"] for row in client.get(after, 200).json] == [5, 6]
    sql("TRUNCATE Stuff")
    assert client.get(after, 200).json == []


def test_the_link_of_a_filter_sent_in_a_body_carries_it(client: Any, sql: Any) -> None:
    fill(sql, 5)
    for kind in ("data", "json"):
        path = link(client.get("/stuff", 200, **{kind: {"filter": "n%", "limit": 2}}))
        assert path is not None
        assert {"filter=n%25", "limit=2"} < set(urlsplit(path).query.split("&"))
        assert [row["sid"] for row in client.get(path, 200).json] == [3, 4]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "abc", "", "1.0", "0x10", "1e2", "9" * 5000, "٣", "+1", " 1"])
def test_a_limit_is_1_to_1000(client: Any, limit: str) -> None:
    assert fields(client.get(f"/stuff?limit={quote(limit)}", 400)) == ["limit"]
    client.get("/stuff?limit=1", 200)
    client.get("/stuff?limit=1000", 200)


CURSORS = [
    "x",
    "AAAA",
    "é",
    "W10",
    "e30",
    "WyJzaWQiXQ",
    "WyJzaWQiLDFd" + "A",
    "WyJzaWQiLC0xXQ",
    "WyJzaWQiLG51bGxd",
    "WyJzdHVmZiIsMV0",
    base64.b64encode(f'["sid", {2**63}]'.encode()).decode(),
    "==",
    "W1tbW1tb",
]


@pytest.mark.parametrize("after", CURSORS)
def test_a_cursor_is_one_that_a_link_gave(client: Any, after: str) -> None:
    assert fields(client.get(f"/stuff?after={quote(after)}", 400)) == ["after"]


def test_a_cursor_beyond_all_keys_is_refused(client: Any) -> None:
    after = base64.urlsafe_b64encode(f'["sid", {2**31}]'.encode()).decode()
    assert client.get(f"/stuff?after={after}", 400).json["code"] == "invalid_request"


@pytest.mark.internal
@pytest.mark.parametrize("path", ["/stuff", "/stuff/batch", "/register"])
def test_a_member_that_is_no_unicode_is_refused(client: Any, path: str) -> None:
    response = client._client.post(path, data=rb'{"\ud800": 1}', content_type="application/json")
    assert response.status_code == 400
    assert "?" in fields(response)


def test_a_cursor_belongs_to_its_order(client: Any, sql: Any) -> None:
    fill(sql, 3)
    after = link(client.get("/stuff?limit=1&sort=stuff", 200)).split("after=")[1]
    for sort in ("sid", "-sid", "-stuff"):
        assert fields(client.get(f"/stuff?sort={sort}&after={after}", 400)) == ["after"]


@pytest.mark.parametrize("sort", ["", "version", "sid,stuff", "SID", "--sid", "sid;"])
def test_sort_is_from_a_closed_list(client: Any, sort: str) -> None:
    assert fields(client.get(f"/stuff?sort={quote(sort)}", 400)) == ["sort"]


@pytest.mark.parametrize(
    ("query", "range_"),
    [("", "items 0-1/2"), ("limit=1", "items 0-0/2"), ("filter=C%25", "items 0-0/1"), ("filter=A%25", "items */0")],
)
def test_a_count_comes_on_request_alone(client: Any, query: str, range_: str) -> None:
    response = client.get(f"/stuff?{query}", 200, headers={"Prefer": "count=exact"})
    assert response.headers["Content-Range"] == range_
    assert response.headers["Preference-Applied"] == "count=exact"
    assert "Content-Range" not in client.get(f"/stuff?{query}", 200).headers


@pytest.mark.parametrize(
    ("prefer", "counted"),
    [
        ('count="exact"', True),
        ("Count = exact", True),
        ("respond-async, count=exact;x=y, return=minimal", True),
        ("xcount=exact", False),
        ("count=exactly", False),
        ("count=none, count=exact", False),
        ('return="count=exact"', False),
    ],
)
def test_prefer_is_read_word_by_word(client: Any, prefer: str, counted: bool) -> None:
    assert ("Content-Range" in client.get("/stuff", 200, headers={"Prefer": prefer}).headers) == counted


def test_a_later_page_leads_back_to_the_first(client: Any, sql: Any) -> None:
    fill(sql, 5)
    first = client.get("/stuff?limit=2&sort=-sid", 200)
    assert link(first, "first") is None
    second = client.get(link(first), 200)
    last = client.get(link(second), 200)
    for page in (second, last):
        assert client.get(link(page, "first"), 200).json == first.json
    assert link(last) is None


# CSV


def test_a_list_comes_as_csv(client: Any, sql: Any) -> None:
    texts = ["plain", 'a "quoted" one', "comma, then", "two\r\nlines", " ", "Été 🦆"]
    for text in texts:
        client.post("/stuff", 201, json={"stuff": text})
    wants = {"Accept": "text/csv", "Prefer": "count=exact"}
    response = client.get("/stuff?limit=7", 200, headers=wants)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Range"] == "items 0-6/8"
    assert response.text.startswith("sid,stuff\r\n1,Chair\r\n2,Desk\r\n3,plain\r\n")
    rows = list(csv.reader(io.StringIO(response.text, newline="")))
    rest = client.get(link(response), 200, headers=wants)
    rows += list(csv.reader(io.StringIO(rest.text, newline="")))[1:]
    assert rows == [["sid", "stuff"], *[[str(i), text] for i, text in enumerate(["Chair", "Desk", *texts], 1)]]
    client.get("/stuff?limit=7", 304, headers=wants | {"If-None-Match": response.headers["ETag"]})
    client.get("/stuff?limit=7", 200, headers={"If-None-Match": response.headers["ETag"]})
    assert client.get("/stuff?filter=A%25", 200, headers=wants).text == "sid,stuff\r\n"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv, */*", "text/csv"),
        ("text/csv, application/json", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_csv_comes_to_who_likes_it_better_than_json(client: Any, accept: str, kind: str) -> None:
    assert client.get("/stuff", 200, headers={"Accept": accept}).headers["Content-Type"].startswith(kind)
    client.get("/stuff/1", 406, headers={"Accept": "text/csv"})


def send_csv(raw: Any, body: bytes) -> Any:
    return raw("POST", "/stuff/batch", body, Content_Type="text/csv")


@pytest.mark.parametrize("start", [b"stuff\r\n", b"stuff\n", b"\xef\xbb\xbfstuff\r\n"])
def test_a_batch_may_come_as_csv(client: Any, raw: Any, start: bytes) -> None:
    assert send_csv(raw, start + 'Lamp\r\n"a ""b"", c\r\nd"\r\nÉté'.encode()).json == {"sids": [3, 4, 5]}
    assert [row["stuff"] for row in client.get("/stuff", 200).json[2:]] == ["Lamp", 'a "b", c\r\nd', "Été"]


def test_what_one_list_gives_as_csv_another_server_takes(client: Any, raw: Any, sql: Any) -> None:
    fill(sql, 10)
    rows = client.get("/stuff", 200, headers={"Accept": "text/csv"}).text
    sql("TRUNCATE Stuff RESTART IDENTITY")
    texts = "\r\n".join(line.partition(",")[2] for line in rows.splitlines())
    assert send_csv(raw, texts.encode()).status_code == 201
    assert client.get("/stuff", 200, headers={"Accept": "text/csv"}).text == rows


@pytest.mark.parametrize(
    ("body", "status", "faulty"),
    [
        (b"stuff\r\n", 400, ["items"]),
        (b"", 400, ["items"]),
        (b"other\r\nx\r\n", 400, ["items[0]"]),
        (b"stuff\r\nfine\r\na,b\r\n", 400, ["items[1]"]),
        (b"stuff,sid\r\nx\r\n", 400, ["items[0]"]),
        (b"stuff\r\nDesk\r\nLamp\r\n", 409, ["items[0]"]),
        (b"stuff\r\na\0b\r\n", 400, ["items[0]"]),
        (b"stuff\r\n\xe9\r\n", 400, None),
        (b'stuff\r\n"x\r\n', 400, None),
        (b"stuff,stuff\r\nx,y\r\n", 400, None),
        (b"stuff\r\n" + b"x\r\n" * 10001, 400, ["items"]),
        (b"stuff\r\n" + b"x\r\n" * 100001, 413, None),
    ],
)
def test_a_faulty_csv_creates_none(client: Any, raw: Any, body: bytes, status: int, faulty: list[str] | None) -> None:
    response = send_csv(raw, body)
    assert response.status_code == status
    assert (fields(response) if faulty else response.json.get("errors")) == faulty
    assert len(client.get("/stuff", 200).json) == 2


def test_csv_is_for_routes_that_say_so(raw: Any) -> None:
    assert raw("POST", "/stuff", b"stuff\r\nx\r\n", Content_Type="text/csv").status_code == 415


# batch


def test_a_batch_creates_all_in_the_order_given(client: Any) -> None:
    names = [f"item {i * 7919 % 10000}" for i in range(10000)]
    sids = client.post("/stuff/batch", 201, json={"items": [{"stuff": name} for name in names]}).json["sids"]
    assert sids == sorted(sids)
    for place in (0, 1, 4999, 9999):
        assert client.get(f"/stuff/{sids[place]}", 200).json["stuff"] == names[place]


def test_a_batch_with_a_duplicate_creates_none_and_names_the_places(client: Any) -> None:
    items = [{"stuff": s} for s in ("one", "Desk", "two", "one")]
    response = client.post("/stuff/batch", 409, json={"items": items})
    assert fields(response) == ["items[1]", "items[3]"]
    assert len(client.get("/stuff", 200).json) == 2


def test_a_batch_with_faulty_items_creates_none_and_names_each(client: Any) -> None:
    items = [{"stuff": "fine"}, {"stuff": ""}, {"stuff": 5}, {"sid": 1}, {"stuff": "x", "sid": 1}, "x", None]
    assert fields(client.post("/stuff/batch", 400, json={"items": items})) == [f"items[{i}]" for i in range(1, 7)]
    assert len(client.get("/stuff", 200).json) == 2


@pytest.mark.parametrize("items", [[], {}, "x", "[", None, 5, [{"stuff": "x"}] * 10001, "[" * 100000])
def test_a_batch_is_an_array_of_1_to_10000_items(client: Any, items: Any) -> None:
    assert fields(client.post("/stuff/batch", 400, json={"items": items})) == ["items"]


def test_a_batch_may_come_in_a_form(client: Any) -> None:
    client.post("/stuff/batch", 201, data={"items": '[{"stuff": "Lamp"}]'})
    assert client.get("/stuff/3", 200).json["stuff"] == "Lamp"


# versions


def test_a_single_stuff_has_the_etag_of_its_version(client: Any) -> None:
    first = client.get("/stuff/1", 200).headers["ETag"]
    assert first == '"1"'
    client.get("/stuff/1", 304, headers={"If-None-Match": first})
    client.get("/stuff/1", 304, headers={"If-None-Match": '"7", W/"1"'})
    client.get("/stuff/1", 304, headers={"If-None-Match": "*"})
    client.put("/stuff/1", 204, json={"stuff": "Stool"})
    response = client.get("/stuff/1", 200, headers={"If-None-Match": first})
    assert response.headers["ETag"] == '"2"'


def test_a_list_that_has_not_changed_is_not_sent_again(client: Any) -> None:
    etag = client.get("/stuff", 200).headers["ETag"]
    assert client.get("/stuff", 304, headers={"If-None-Match": etag}).text == ""
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    client.get("/stuff", 200, headers={"If-None-Match": etag})


def test_the_etag_of_a_list_is_that_of_its_count_and_its_links_too(client: Any, sql: Any) -> None:
    fill(sql, 3)
    counted = {"Prefer": "count=exact"}
    plain, exact = client.get("/stuff?limit=2", 200), client.get("/stuff?limit=2", 200, headers=counted)
    assert plain.headers["ETag"] != exact.headers["ETag"]
    client.get("/stuff?limit=2", 304, headers=counted | {"If-None-Match": exact.headers["ETag"]})
    sql("INSERT INTO Stuff(stuff) VALUES ('one more')")
    now = client.get("/stuff?limit=2", 200, headers=counted | {"If-None-Match": exact.headers["ETag"]})
    assert now.headers["Content-Range"] == "items 0-1/4"
    client.get("/stuff?limit=2", 304, headers={"If-None-Match": plain.headers["ETag"]})
    sql("DELETE FROM Stuff WHERE sid > 2")  # no next page any more
    assert link(client.get("/stuff?limit=2", 200, headers={"If-None-Match": plain.headers["ETag"]})) is None


@pytest.mark.parametrize(
    ("match", "status"), [('"1"', 200), ('"8", "1"', 200), ("*", 200), ('"2"', 412), ('W/"1"', 412), ("1", 412)]
)
def test_a_read_holds_only_for_the_version_it_names(client: Any, match: str, status: int) -> None:
    client.get("/stuff/1", status, headers={"If-Match": match})
    client.get("/stuff/1", 304 if status == 200 else 412, headers={"If-Match": match, "If-None-Match": '"1"'})
    client.get("/stuff/99", 404, headers={"If-Match": match})


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_write_for_where_nothing_is_changes_nothing_that_is(client: Any, method: str) -> None:
    kwargs: dict[str, Any] = {} if method == "delete" else {"json": {"stuff": "Stool"}}
    for path, status in (("/stuff/1", 412), ("/stuff/99", 404)):
        getattr(client, method)(path, status, headers={"If-None-Match": "*"}, **kwargs)
    assert client.get("/stuff/1", 200).json["stuff"] == "Chair"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize(
    ("match", "status"),
    [
        ('"1"', 204),
        ('"8", "1"', 204),
        ("*", 204),
        ('"2"', 412),
        ('W/"1"', 412),
        ('"x"', 412),
        ("1", 412),
        ('"99999999999"', 412),
    ],
)
def test_a_write_holds_only_for_the_version_it_names(client: Any, method: str, match: str, status: int) -> None:
    kwargs: dict[str, Any] = {} if method == "delete" else {"json": {"stuff": "Stool"}}
    getattr(client, method)("/stuff/1", status, headers={"If-Match": match}, **kwargs)
    getattr(client, method)("/stuff/99", 404, headers={"If-Match": match}, **kwargs)


def test_a_change_by_psql_makes_a_version_too(client: Any, sql: Any) -> None:
    sql("UPDATE Stuff SET stuff = 'Stool' WHERE sid = 1")
    assert client.get("/stuff/1", 200).headers["ETag"] == '"2"'


def test_what_is_refused_uses_up_no_key(client: Any, sql: Any) -> None:
    client.post("/stuff", 409, json={"stuff": "Desk"})
    client.post("/stuff/batch", 409, json={"items": [{"stuff": "Same"}] * 10_000})
    client.post("/stuff/batch", 409, json={"items": [{"stuff": "New"}, {"stuff": "Desk"}]})
    assert client.post("/stuff", 201, json={"stuff": "Lamp"}).json == {"sid": 3}


def test_keys_that_are_used_up_are_no_fault_of_the_client(client: Any, sql: Any, calvin: Any) -> None:
    sql("SELECT setval('stuff_sid_seq', 2147483647)")
    error = client.post("/stuff", 503, json={"stuff": "Lamp"}).json
    assert error["code"] == "unavailable"
    client.post("/stuff/batch", 503, json={"items": [{"stuff": "Lamp"}]})
    text = client.get("/metrics", 200, headers=calvin).text
    assert 'stuff_sequence_used_ratio{sequence="stuff_sid_seq"} 1\n' in text
