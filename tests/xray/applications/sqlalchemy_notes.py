"""SQLAlchemy in a hand-written WSGI application: the ORM adds notes, core SQL counts the views."""

from html import escape
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

# With a path, the file would be the one in the working directory of the import.
engine = create_engine("sqlite:///file:notes.db?uri=true")


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    if environ["REQUEST_METHOD"] == "POST":
        size = int(environ["CONTENT_LENGTH"])
        fields = parse_qs(environ["wsgi.input"].read(size).decode())
        add_note(fields["text"][0])
        start_response("303 See Other", [("Location", "/"), ("Content-Length", "0")])
        return []
    page = show_notes().encode()
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))]
    start_response("200 OK", headers)
    return [page]


def add_note(note: str) -> None:
    with Session(engine) as session:
        session.add(Note(text=note))
        session.commit()


def show_notes() -> str:
    with engine.begin() as connection:
        connection.execute(text("UPDATE notes SET views = views + 1"))
        rows = connection.execute(select(Note.text, Note.views)).all()
    return "".join(f"<p>{escape(note)} ({views})</p>\n" for note, views in rows)


def create_database() -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Note).values(text="salt & pepper"))
    engine.dispose()
