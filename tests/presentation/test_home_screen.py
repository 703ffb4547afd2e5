"""The list on a phone's home screen: the manifest, its icons, and what Chromium says about them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import icons
import pytest
from browsers import WIDE, new_page
from playwright.sync_api import Browser
from servers import ROOT, Server, running, serve_command
from werkzeug.test import Client

from todo_wsgi.http.password import hash_password

SECRET = "correct horse"
OWNER = {"username": "me", "password": SECRET}


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"TODO_PASSWORD": hash_password(SECRET.encode())}
    folder = tmp_path_factory.mktemp("protected")
    with running(serve_command("--port", "0"), folder, settings) as server:
        yield server


@pytest.fixture
def manifest(client: Client) -> dict[str, Any]:
    [path] = re.findall('<link rel="manifest" href="([^"]*)"', client.get("/").text)
    answer = client.get(path)
    assert answer.headers["Content-Type"] == "application/manifest+json"
    return dict(json.loads(answer.text))


def size_of(png: bytes) -> str:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return "{}x{}".format(*struct.unpack(">II", png[16:24]))  # W3C PNG, "IHDR Image header"


def test_the_manifest_names_icons_that_are_there_in_these_sizes(
    client: Client, manifest: dict[str, Any]
) -> None:
    vector, *pictures = manifest["icons"]
    assert client.get(vector["src"]).headers["Content-Type"] == vector["type"]
    for picture in pictures:
        answer = client.get(picture["src"])
        assert answer.headers["Content-Type"] == picture["type"]
        assert size_of(answer.data) == picture["sizes"]
    assert [icon["sizes"] for icon in manifest["icons"]] == ["any", "192x192", "512x512"]


def test_icons_and_manifest_are_kept_for_a_year(client: Client, manifest: dict[str, Any]) -> None:
    for icon in manifest["icons"]:
        assert client.get(icon["src"]).headers["Cache-Control"] == "max-age=31536000, immutable"


def test_an_iphone_finds_its_icon(client: Client) -> None:
    [path] = re.findall('<link rel="apple-touch-icon" href="([^"]*)"', client.get("/").text)
    assert size_of(client.get(path).data) == "192x192"


def test_the_window_has_the_colours_of_the_style_sheet(
    client: Client, manifest: dict[str, Any]
) -> None:
    papers = re.findall("--paper: (#[0-9a-f]+);", (ROOT / "static/style.css").read_text())
    assert re.findall('name="theme-color" content="([^"]*)"', client.get("/").text) == papers
    assert {manifest["theme_color"], manifest["background_color"]} == {papers[0]}


def test_chromium_installs_a_list_that_has_a_password(browser: Browser, protected: Server) -> None:
    with new_page(browser, protected, width=WIDE, http_credentials=OWNER) as page:
        page.goto("/")
        tools = page.context.new_cdp_session(page)
        found = tools.send("Page.getAppManifest")
        assert found["errors"] == []
        assert json.loads(found["data"])["display"] == "standalone"
        reasons = tools.send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert {reason["errorId"] for reason in reasons} <= {"in-incognito"}  # as all tests are


def test_a_script_draws_small_icons(browser: Browser, tmp_path: Path) -> None:
    icons.main(browser, tmp_path)
    for size in icons.SIZES:
        drawn, shipped = (
            Path(folder, f"home-{size}.png") for folder in (tmp_path, ROOT / "static")
        )
        assert size_of(drawn.read_bytes()) == size_of(shipped.read_bytes())
        assert len(shipped.read_bytes()) < 2000
