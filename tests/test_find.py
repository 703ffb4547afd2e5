"""What a visitor does to find todos: search for words, follow tags and addresses in a text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import fill, run_sql, shown
from werkzeug.test import Client

from todo_wsgi import Application
from todo_wsgi.storage.database import Database
from todo_wsgi.storage.models import PAGE_SIZE


@pytest.fixture
def shop(client: Client) -> Client:
    """A client for a list of four todos, of which the third is completed."""
    for text in ("call Ada", "Buy rye bread", "buy oat milk", "50% off_all"):
        client.post("/", data={"text": text})
    client.post("/todos/3/complete")
    return client


def find(client: Client, words: str, **fields: str) -> list[str]:
    """Return the texts of the todos that a search finds."""
    page = client.get("/", query_string={"q": words, **fields})
    assert page.status_code == 200
    return shown(client, page.request.path + "?" + page.request.query_string.decode())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bread", ["Buy rye bread"]),
        ("BUY", ["buy oat milk", "Buy rye bread"]),
        ("bread  buy", ["Buy rye bread"]),
        ("bread milk", []),
        ("uy ry", ["Buy rye bread"]),
        ("%", ["50% off_all"]),
        ("_", ["50% off_all"]),
        ("u_", []),
        ("b%y", []),
        (" \t\u3000\r\n", ["50% off_all", "buy oat milk", "Buy rye bread", "call Ada"]),
    ],
)
def test_a_search_finds_the_todos_with_every_word(
    shop: Client, words: str, found: list[str]
) -> None:
    assert find(shop, words) == found


def test_only_a_to_z_match_in_capital_and_small_letters(client: Client) -> None:
    client.post("/", data={"text": "Äpfel"})
    assert [find(client, "ÄPFEL"), find(client, "äpfel")] == [["Äpfel"], []]


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "\"quoted\" 'quoted'",
        "'; DROP TABLE todos; --",
        '"><script>alert(1)</script>',
        "&amp; $text ? ?1 :a {0} %s %41 \\",
        "قائمة \u200fשלם 🍞",
        "e\u0301",
        "+ @ +a",
    ],
)
def test_any_text_can_be_searched_for(client: Client, words: str, is_stored: bool) -> None:
    client.post("/", data={"text": "milk"})
    if is_stored:
        client.post("/", data={"text": words})
    assert find(client, words) == [words] * is_stored
    page = client.get("/", query_string={"q": words})
    assert f'<input id="q" type="search" name="q" value="{html.escape(words)}"' in page.text


@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x1f", "\x7f", "\x9b", "\ufdd0", "\U0010ffff"]
)
def test_a_control_character_can_be_searched_for(
    client: Client, database: Path, character: str
) -> None:
    client.get("/")
    run_sql(database, f"INSERT INTO todos (text) VALUES ('a' || char({ord(character)}) || 'b')")
    assert find(client, f"a{character}B") == ["a\ufffdb"]
    assert find(client, f"{character}c") == []


def test_a_search_is_cut_after_500_characters(client: Client) -> None:
    client.post("/", data={"text": "x" * 500})
    for words in ("x" * 500, "x" * 501, "x" * 500 + " milk", "x" * 16_384):
        assert find(client, words) == ["x" * 500]
    assert f'name="q" value="{"x" * 500}"' in client.get("/?q=" + "x" * 501).text


def test_a_search_may_have_very_many_words(client: Client) -> None:
    client.post("/", data={"text": "abc"})
    assert find(client, "a " * 250) == find(client, "c " * 5000) == ["abc"]
    assert find(client, "a " * 249 + "d") == []


@pytest.mark.parametrize("query", ["q=%00", "q=%ED%A0%80", "q=%FF", "q=%", "q", "q=", "q=a&q=b"])
def test_no_query_is_too_odd_for_a_search(shop: Client, query: str) -> None:
    assert shop.get(f"/?{query}").status_code == 200


def test_text_that_is_no_text_is_found_as_it_is_shown(client: Client, database: Path) -> None:
    client.get("/")
    run_sql(database, "INSERT INTO todos (text) VALUES (x'4D696C6B'), (42)")
    assert [find(client, "milk"), find(client, "4")] == [["Milk"], ["42"]]


def test_a_search_combines_with_the_filters(shop: Client) -> None:
    assert find(shop, "buy", show="active") == ["Buy rye bread"]
    assert find(shop, "buy", show="completed") == ["buy oat milk"]
    page = shop.get("/?show=active&q=buy+x").text
    for link in ("/?q=buy+x", "/?show=active&amp;q=buy+x", "/?show=completed&amp;q=buy+x"):
        assert f'<a href="{link}" aria-current=' in page
    [form] = re.findall('<form class="find".*?</form>', page, re.DOTALL)
    assert '<input type="hidden" name="show" value="active">' in form
    assert 'role="search"' in form
    assert "method" not in form  # it is a GET
    assert '<label for="q" class="hidden">Find</label>' in form


def test_a_search_has_pages(client: Client, database: Path) -> None:
    client.get("/")
    fill(database, 500, "CASE WHEN i % 2 THEN 'odd ' ELSE 'even ' END || i")
    pages = [find(client, "odd"), find(client, "odd", **{"from": "299"})]
    assert [(page[0], page[-1]) for page in pages] == [
        ("odd 499", "odd 301"),
        ("odd 299", "odd 101"),
    ]
    page = client.get("/?q=odd").text
    assert '<a href="/?from=299&amp;q=odd" aria-current="false">Next page</a>' in page
    page = client.get("/?from=99&q=odd").text
    assert '<a href="/?from=299&amp;q=odd" aria-current="false">Previous page</a>' in page
    assert "Next page" not in page


@pytest.mark.of_file
def test_a_search_stops_at_a_page(client: Client, app: Application, database: Path) -> None:
    client.get("/")
    fill(database, 10_000)
    looked_at: list[str] = []
    connection = app.database.connection()

    def match(text: str, word: str) -> bool:
        looked_at.append(text)
        return word in text

    connection.create_function("instr", 2, match)
    assert client.get("/?q=todo").status_code == 200
    assert len(set(looked_at)) == PAGE_SIZE + 1  # one more, for the link to the next page


def test_a_search_without_result_says_so(shop: Client) -> None:
    for path in ("/?q=cake", "/?show=completed&q=cake", "/?show=active&q=cake"):
        assert '<p class="hint">Nothing found.</p>' in shop.get(path).text
    assert '<p class="hint">No more todos here.</p>' in shop.get("/?from=0&q=milk").text
    assert '<p class="hint"></p>' in shop.get("/?q=milk").text


def test_visitors_do_not_share_a_page_that_was_searched(
    shop: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "cached", None)  # calling it would fail
    assert shop.get("/?q=milk").status_code == shop.get("/?show=active&q=").status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/todos/1/complete", {}),
        ("/todos/1/complete", {"show": "active"}),
        ("/todos/3/reopen", {}),
        ("/todos/3/reopen", {"show": "completed"}),
        ("/todos/2/top", {}),
        ("/todos/2/up", {"past": "3"}),
        ("/todos/2/down", {"past": "1"}),
        ("/todos/2/delete", {}),
        ("/todos/2", {"text": "cake"}),
        ("/complete-all", {}),
        ("/clear-completed", {}),
        ("/undo", {"completed_at": "x"}),
        ("/undo", {"imported": "x"}),
    ],
)
def test_an_action_keeps_the_search(shop: Client, path: str, fields: dict[str, str]) -> None:
    assert '<input type="hidden" name="q" value="b&amp;y 1">' in shop.get("/?q=b%26y+1").text
    answer = shop.post(path, data={"q": "b&y 1", **fields})
    assert "q=b%26y+1" in answer.headers["Location"]
    assert 'name="q" value="b&amp;y 1"' in shop.get(answer.headers["Location"]).text


def test_the_edit_page_leads_back_to_the_search(shop: Client) -> None:
    assert '<a href="/todos/2?q=buy#text">' in shop.get("/?q=buy").text
    page = shop.get("/todos/2?q=buy").text
    assert '<a href="/?q=buy#todo-2">Back to the list</a>' in page
    assert '<input type="hidden" name="q" value="buy">' in page


def test_a_new_todo_ends_the_search(shop: Client) -> None:
    assert shop.post("/", data={"text": "tea", "q": "buy"}).headers["Location"] == "/?added=5"


def test_a_move_among_the_found_skips_the_others(client: Client) -> None:
    for text in ("buy milk", "call Ada", "buy bread"):
        client.post("/", data={"text": text})
    assert 'action="/todos/1/up" name="past" value="3"' in client.get("/?q=buy").text
    answer = client.post("/todos/1/up", data={"past": "3", "q": "buy"})
    assert answer.headers["Location"] == "/?q=buy&moved=1#todo-1"
    assert shown(client) == ["buy milk", "call Ada", "buy bread"]


def test_the_buttons_for_all_are_absent_from_a_search(shop: Client) -> None:
    page = shop.get("/?q=buy").text
    assert "Mark all as complete" not in page
    assert "Clear completed" not in page


# Tags and addresses


def links(page: str) -> list[tuple[str, str]]:
    """Return the links in the texts of the todos: the address and the word."""
    texts = re.findall('<span class="text" dir="auto">(.*?)</span>', page, re.DOTALL)
    found = re.findall('<a href="([^"]*)" rel="noreferrer">(.*?)</a>', "".join(texts))
    assert "".join(texts).count("<") == 2 * len(found)  # no other element is in a text
    return [(html.unescape(address), html.unescape(word)) for address, word in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("milk +shop @town", [("/?q=%2Bshop", "+shop"), ("/?q=%40town", "@town")]),
        ("a+b a@b ++c", [("/?q=%2B%2Bc", "++c")]),
        ("+ @ - # +", []),
        ("+a\u3000@b", [("/?q=%2Ba", "+a"), ("/?q=%40b", "@b")]),
        ("see https://x.example/?a=1&b=2#c", [("https://x.example/?a=1&b=2#c",) * 2]),
        ("http://a http://b", [("http://a",) * 2, ("http://b",) * 2]),
        ("http:// https:// ftp://x //x x.example", []),
        ("javascript:alert(1) data:text/html,x HTTP://X", []),
        ("+javascript:alert(1)", [("/?q=%2Bjavascript%3Aalert%281%29", "+javascript:alert(1)")]),
        ("+<script>", [("/?q=%2B%3Cscript%3E", "+<script>")]),
        ('@"x', [("/?q=%40%22x", '@"x')]),
        ('http://x"onmouseover=', [('http://x"onmouseover=',) * 2]),
        ("https://x/'><b>&amp;", [("https://x/'><b>&amp;",) * 2]),
        ("<b> +a </a>", [("/?q=%2Ba", "+a")]),
        ("@קניות \u202e+x", [("/?q=%40%D7%A7%D7%A0%D7%99%D7%95%D7%AA", "@קניות")]),
        ("+%41&b=c#d;", [("/?q=%2B%2541%26b%3Dc%23d%3B", "+%41&b=c#d;")]),
        ("+" + "x" * 499, [("/?q=%2B" + "x" * 499, "+" + "x" * 499)]),
        ("@" + "🍞" * 499, [("/?q=%40" + "%F0%9F%8D%9E" * 499, "@" + "🍞" * 499)]),
        ("http://" + "x" * 493, [("http://" + "x" * 493,) * 2]),
        ("http://[ +\ufdd0", [("http://[",) * 2, ("/?q=%2B%EF%B7%90", "+\ufffd")]),
    ],
)
def test_tags_and_addresses_are_links_and_all_else_is_text(
    client: Client, text: str, expected: list[tuple[str, str]]
) -> None:
    assert client.post("/", data={"text": text}).status_code == 303
    assert links(client.get("/").text) == expected
    assert shown(client) == [text.replace("\ufdd0", "\ufffd")]


@pytest.mark.parametrize("tag", ["+shop", '@"x', "+%41&b=c", "@" + "🍞" * 499, "++", "+\ufdd0"])
def test_a_tag_leads_to_the_todos_that_have_it(
    client: Client, stored: Callable[[], list[str]], tag: str
) -> None:
    for text in ("milk", tag):
        client.post("/", data={"text": text})
    [(address, _)] = links(client.get("/").text)
    assert len(shown(client, address)) == 1
    assert len(stored()) == 2
