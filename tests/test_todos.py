"""What a visitor does first: view the list, and add to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import read_sql, run_sql, shown
from werkzeug.test import Client

Stored = Callable[[], list[str]]


def test_the_list_is_empty_at_first(client: Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "Nothing to do yet" in answer.text
    assert shown(client) == []


def test_the_form_has_a_field_a_label_and_a_button(client: Client) -> None:
    page = client.get("/").text
    assert '<form method="post" action="/">' in page
    assert '<label for="text" class="hidden">New todo</label>' in page
    assert '<input id="text" name="text" value=""' in page
    assert '<button class="main">Add todo</button>' in page


def test_adding_a_todo_stores_it_and_redirects_to_the_list(client: Client, stored: Stored) -> None:
    answer = client.post("/", data={"text": "milk"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/?added=1"
    assert stored() == ["milk"]
    assert shown(client) == ["milk"]


def test_a_todo_records_when_it_was_added(client: Client, database: Path) -> None:
    client.post("/", data={"text": "milk"})
    ago = "strftime('%s', 'now') - strftime('%s', created_at)"
    sql = f"SELECT {ago}, completed_at, deleted_at FROM todos"
    [(seconds, completed_at, deleted_at)] = read_sql(database, sql)
    assert 0 <= seconds < 60
    assert (completed_at, deleted_at) == (None, None)


def test_the_newest_todo_comes_first(client: Client) -> None:
    for text in ("milk", "bread", "honey"):
        client.post("/", data={"text": text})
    assert shown(client) == ["honey", "bread", "milk"]


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b>",
        "</li><script>alert(1)</script>",
        "it's \"quoted\" & 'quoted'",
        "&lt; &amp;amp; &#39;",
        "$name ${name} $$ 100 %s {0}",
        "'; DROP TABLE todos; --",
        "x'6869'",
        "a+b=c&d=e;f 100% %41",
        "🍞 👩‍👩‍👧‍👦 🏴‍☠️",
        "قائمة שלום \u200fmixed",
        "e\u0301 ne\u0308 a\u030a\u0323",
        "\ufeffmark \u2028 separators \u200b \ue000",
        "x" * 500,
        "🍞" * 500,
    ],
)
def test_any_text_is_stored_and_shown_as_typed(client: Client, stored: Stored, text: str) -> None:
    assert client.post("/", data={"text": text}).status_code == 303
    assert stored() == [text]
    assert shown(client) == [text]


def test_whitespace_around_the_text_is_trimmed(client: Client, stored: Stored) -> None:
    client.post("/", data={"text": " \t\r\n\u00a0 milk  and honey \u3000\n"})
    assert stored() == ["milk  and honey"]


@pytest.mark.parametrize(
    "text", ["milk\nand honey", "milk \r\n \r\n\tand honey\r\n", "milk\rand honey"]
)
def test_line_breaks_become_spaces(client: Client, stored: Stored, text: str) -> None:
    assert client.post("/", data={"text": text}).status_code == 303
    assert stored() == ["milk and honey"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Write what there is to do."),
        (" \t\u3000\n", "Write what there is to do."),
        ("x" * 501, "Shorten it to 500 characters: it has 501."),
        ("tab\there", "Remove the control characters"),
        ("nul\0here", "Remove the control characters"),
        ("c1 \x9b here", "Remove the control characters"),
    ],
)
def test_an_invalid_text_comes_back_with_the_reason(
    client: Client, stored: Stored, text: str, problem: str
) -> None:
    client.post("/", data={"text": "bread"})
    answer = client.post("/", data={"text": text})
    assert answer.status_code == 422
    assert f'<p id="problem" class="problem">{problem}' in answer.text
    typed = re.sub("[\0\x9b]", "\ufffd", text)
    assert f'value="{typed}" ' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert f"<title>Error: {problem}" in answer.text
    assert ">bread</span>" in answer.text
    assert stored() == ["bread"]


def test_an_invalid_text_comes_back_escaped(client: Client) -> None:
    answer = client.post("/", data={"text": '"><script>' + "x" * 500})
    assert 'value="&quot;&gt;&lt;script&gt;xxx' in answer.text


def test_a_missing_text_field_counts_as_empty(client: Client, stored: Stored) -> None:
    assert client.post("/", data={"other": "milk"}).status_code == 422
    assert stored() == []


def test_a_row_inserted_by_hand_is_on_the_next_page(client: Client, database: Path) -> None:
    client.post("/", data={"text": "milk"})
    run_sql(database, "INSERT INTO todos (text) VALUES ('by hand')")
    assert shown(client) == ["by hand", "milk"]


def test_rows_without_valid_text_are_still_shown(client: Client, database: Path) -> None:
    for value in ("x'6D696C6B'", "CAST(x'6DFF6B' AS TEXT)", "42", "char(0xD800)"):
        run_sql(database, f"INSERT INTO todos (text) VALUES ({value})")
    assert shown(client) == ["\ufffd\ufffd\ufffd", "42", "m\ufffdk", "milk"]


def test_characters_invalid_in_html_are_shown_as_u_fffd(
    client: Client, database: Path, stored: Stored
) -> None:
    client.post("/", data={"text": "\ufdd0 \U0010ffff"})
    run_sql(database, "INSERT INTO todos (text) VALUES (char(7, 155))")
    assert shown(client) == ["\ufffd\ufffd", "\ufffd \ufffd"]
    assert stored() == ["\ufdd0 \U0010ffff", "\x07\x9b"]


def test_a_deleted_todo_is_not_shown(client: Client, database: Path) -> None:
    client.post("/", data={"text": "milk"})
    run_sql(database, "UPDATE todos SET deleted_at = CURRENT_TIMESTAMP")
    assert shown(client) == []
