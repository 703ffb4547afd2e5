"""Falcon: a JSON API that creates and changes things, a stream, and a file to download."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import falcon
from falcon import Request, Response

SCHEMA = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price TEXT NOT NULL)"


@dataclass
class Thing:
    name: str
    price: Decimal
    since: date


def thing_of(media: Any) -> Thing:
    return Thing(media["name"], Decimal(media["price"]), date(2026, 2, 28))


class Things:
    def on_get(self, _request: Request, response: Response) -> None:
        with closing(sqlite3.connect("things.db")) as connection:
            rows = connection.execute("SELECT name, price FROM things").fetchall()
        response.media = [{"name": name, "price": price} for name, price in rows]

    def on_post(self, request: Request, response: Response) -> None:
        thing = thing_of(request.get_media())
        insert = "INSERT INTO things (name, price) VALUES (?, ?) RETURNING id"
        with closing(sqlite3.connect("things.db")) as connection, connection:
            (number,) = connection.execute(insert, (thing.name, str(thing.price))).fetchone()
        response.status = falcon.HTTP_201
        response.location = f"/things/{number}"
        response.media = {"id": number}

    def on_put_one(self, request: Request, response: Response, number: int) -> None:
        price = request.get_media()["price"]
        with closing(sqlite3.connect("things.db")) as connection, connection:
            connection.execute("UPDATE things SET price = ? WHERE id = ?", (price, number))
        response.media = {"id": number, "price": price}


class Files:
    def on_get(self, _request: Request, response: Response) -> None:
        file = Path(__file__).parent / "static/style.css"
        response.content_type = "text/css"
        response.set_stream(file.open("rb"), file.stat().st_size)

    def on_get_numbers(self, _request: Request, response: Response) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.stream = numbers()


def numbers() -> Iterator[bytes]:
    for number in range(1, 4):
        yield b"%d\n" % number


app = falcon.App()
app.add_route("/things", Things())
app.add_route("/things/{number:int}", Things(), suffix="one")
app.add_route("/style.css", Files())
app.add_route("/numbers", Files(), suffix="numbers")


def create_database() -> None:
    with closing(sqlite3.connect("things.db")) as connection, connection:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO things (name, price) VALUES ('cup', '2.50')")
