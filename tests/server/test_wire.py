"""Anything that a client can send to the real server over a socket: it must survive it all.

All tests share one server; at the end, `server` in conftest.py checks that it exited cleanly and
printed no error.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from servers import POSIX_ONLY, Server, get, post, receive_all, receive_until, request, status_of

FORM = "Content-Type: application/x-www-form-urlencoded"
CHUNKED = ("POST", "/", FORM, "Transfer-Encoding: chunked")


@pytest.fixture(autouse=True)
def nothing_is_lost(server: Server, request: pytest.FixtureRequest) -> Iterator[None]:
    """Store a todo before each test, and find it afterwards: the server is alive and lost none."""
    keepsake = f"kept-{hash(request.node.nodeid):x}"
    assert status_of(server.send(post(f"text={keepsake}".encode()))) == 303
    yield
    assert status_of(server.send(get("/?show=completed"))) == 200
    assert is_listed(server, keepsake)


def is_listed(server: Server, text: str) -> bool:
    return f" {text}\n" in server.send(get("/todos.txt")).decode()


def test_the_response_is_complete_and_names_no_server(server: Server) -> None:
    head, _, body = server.send(get()).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"chunked" not in head
    assert b"Server:" not in head
    assert b"Via:" not in head


def test_a_connection_serves_many_requests(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(get("/healthz").replace(b"Connection: close\r\n", b""))
            assert receive_until(connection, b"ok").startswith(b"HTTP/1.1 200 OK\r\n")


def test_304_keeps_the_connection_open_unless_asked_to_close(server: Server) -> None:
    etag = server.send(get()).partition(b"\r\nEtag: ")[2].split()[0].decode()
    known = get("/", f"If-None-Match: {etag}")
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(known.replace(b"Connection: close\r\n", b""))
            answer = receive_until(connection, b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 304 Not Modified\r\n")
            assert b"Connection: close" not in answer
    for asks_to_close in (known, known.replace(b"HTTP/1.1", b"HTTP/1.0")):
        assert b"\r\nConnection: close\r\n" in server.send(asks_to_close)


def test_pipelined_requests_are_dropped(server: Server) -> None:
    first, second = get("/healthz").replace(b"Connection: close\r\n", b""), post(b"text=behind")
    for behind in (second, second[:-3]):
        answer = server.send(first + behind)
        assert answer.count(b"HTTP/1.1") == 1
        assert b"\r\nConnection: close\r\n" in answer
    assert not is_listed(server, "behind")


def test_clients_that_never_read_do_not_block_others(server: Server) -> None:
    for _ in range(5):
        assert status_of(server.send(post(b"text=" + b"'" * 500))) == 303
    deaf = [server.connect() for _ in range(16)]  # twice as many as waitress has threads
    try:
        for connection in deaf:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 450)
        for _ in range(100):
            assert status_of(server.send(get("/healthz"))) == 200
    finally:
        for connection in deaf:
            connection.close()


@pytest.mark.parametrize(
    ("length", "status"),
    [("X: y", 200), ("Content-Length: 0", 200), ("Content-Length: x", 400)],
)
def test_the_server_does_not_wait_for_a_missing_body(
    server: Server, length: str, status: int
) -> None:
    sent = get("/", "Expect: 100-continue", length)
    assert status_of(server.send(sent)) == status


def test_urgent_data_closes_the_connection(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET")
        connection.send(b"!", socket.MSG_OOB)
        assert receive_all(connection) == b""


def test_clients_may_disconnect_before_reading_their_errors(server: Server) -> None:
    for _ in range(3000):
        with server.connect() as connection:
            connection.sendall(b"bad\r\n\r\n")


def test_http_1_0_is_supported(server: Server) -> None:
    assert server.send(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 400),
        ("nine", 400),
        ("-9", 400),
        ("+9", 400),
        ("9.0", 400),
        ("0x9", 400),
        ("9, 9", 400),
        ("9" * 5000, 400),
        ("9" * 30, 413),
        ("262144", 413),
        ("65537", None),
        ("10", None),
        ("8", 303),  # the ninth byte starts another request, a malformed one
    ],
)
def test_a_wrong_content_length_is_refused(server: Server, length: str, status: int | None) -> None:
    wrong = request("POST", "/", FORM, f"Content-Length: {length}")
    with server.connect() as connection:
        connection.sendall(wrong + b"text=cut.")
        connection.shutdown(socket.SHUT_WR)
        answer = receive_all(connection)
    # If the body is shorter than announced, nobody is left to respond to.
    assert (status_of(answer) if answer else None) == status
    assert not is_listed(server, "cut.")


def test_two_content_lengths_return_400(server: Server) -> None:
    assert status_of(server.send(post(b"text=twice", "Content-Length: 10"))) == 400
    assert not is_listed(server, "twice")


def test_a_missing_content_length_is_a_form_without_fields(server: Server) -> None:
    assert status_of(server.send(request("POST", "/", FORM))) == 422


def test_an_oversized_body_gets_our_413_page(server: Server) -> None:
    answer = server.send(post(b"text=" + b"x" * 100_000))
    assert status_of(answer) == 413
    assert b"Nothing was changed: shorten it" in answer


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"5\r\ntext=\r\n4\r\nmilk\r\n0\r\n\r\n", 303),
        (b"9;note=x\r\ntext=milk\r\n0\r\nTrailer: x\r\n\r\n", 303),
        (b"0\r\n\r\n", 422),
        (b"zz\r\ntext=milk\r\n0\r\n\r\n", 400),
        (b"-9\r\ntext=milk\r\n0\r\n\r\n", 400),
        (b"9\r\ntext=milk0\r\n\r\n", 400),
        (b"%X\r\n%b\r\n0\r\n\r\n" % (100_000, b"text=".ljust(100_000, b"x")), 413),
        (b"%X\r\n%b\r\n0\r\n\r\n" % (3_000_000, b"text=".ljust(3_000_000, b"x")), 413),
    ],
)
def test_chunked_bodies_are_decoded_or_refused(server: Server, chunks: bytes, status: int) -> None:
    assert status_of(server.send(request(*CHUNKED) + chunks)) == status


def test_other_transfer_encodings_return_501(server: Server) -> None:
    assert status_of(server.send(request("POST", "/", FORM, "Transfer-Encoding: gzip"))) == 501


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"text=\xff\xfe", 400),
        (b"text=%ff", 400),
        (b"text=%ED%A0%80", 400),
        (b"text=%zz", 400),
        (b"text=a%00b", 422),
        (b"text=%0D%0ASet-Cookie:+a=b", 303),
        (b"text=1&text=2", 400),
        (b"text", 422),
        (b"", 422),
        (b"&" * 60_000, 400),
        (b"a=b&" * 15_000, 400),
        (b"text=" + b"%F0%9F%8D%9E" * 500, 303),
    ],
)
def test_unusual_forms_get_the_expected_status(server: Server, body: bytes, status: int) -> None:
    assert status_of(server.send(post(body))) == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("//", 200),
        ("//evil.example", 404),
        ("/..", 404),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/", 404),
        ("/%2e%2e%2fsetup.cfg", 404),
        ("/%00", 404),
        ("/%zz", 404),
        ("/%", 404),
        ("/%ff", 400),
        ("/\xff", 400),
        ("/\\", 404),
        ("/?%00%ff&&&=", 200),
        ("/#", 200),
        ("*", 404),
        ("http://evil.example/", 200),
        ("http://evil.example", 200),
        ("http://[", 400),
        ("http://[evil]/", 400),
        ("evil.example:443", 404),
        ("/" + "x" * 15_000, 404),
        ("/" + "x" * 17_000, 431),
        ("/two words", 400),
    ],
)
def test_unusual_addresses_get_the_expected_status(server: Server, path: str, status: int) -> None:
    answer = server.send(get(path))
    assert status_of(answer) == status
    assert b"evil.example" not in answer


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("HEAD", 200),
        ("OPTIONS", 405),
        ("TRACE", 405),
        ("CONNECT", 405),
        ("BREW", 405),
        ("PROPFIND", 405),
        ("M-SEARCH", 405),
        ("get", 400),
        ("X" * 17_000, 431),
        ("\x16\x03\x01", 400),  # TLS
    ],
)
def test_unusual_methods_get_the_expected_status(server: Server, method: str, status: int) -> None:
    assert status_of(server.send(request(method, "/"))) == status


def test_head_sends_only_the_head(server: Server) -> None:
    head, _, body = server.send(request("HEAD", "/")).partition(b"\r\n\r\n")
    full_head, _, _ = server.send(get()).partition(b"\r\n\r\n")
    assert body == b""
    assert [line for line in head.split(b"\r\n") if b"Content-Length" in line] == [
        line for line in full_head.split(b"\r\n") if b"Content-Length" in line
    ]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example"]
)
def test_proxy_headers_from_unknown_clients_are_ignored(server: Server, header: str) -> None:
    forged = post(b"text=forged", "Origin: http://evil.example", header)
    assert status_of(server.send(forged)) == 403
    assert not is_listed(server, "forged")


@pytest.mark.parametrize(
    "sent",
    [
        get("/%0D%0AX-Evil:%20yes"),
        get("/?%0D%0AX-Evil:%20yes"),
        get("/style.css%0D%0AX-Evil:%20yes"),
        post(b"text=%0D%0AX-Evil:+yes"),
        post(b"text=evil%0D%0AX-Evil:+yes"),
        post(b"text=evil", "Origin: http://localhost%0D%0AX-Evil: yes"),
        get("/", "If-None-Match: %0D%0AX-Evil: yes"),
        request("X-Evil", "/"),
    ],
)
def test_a_request_cannot_inject_response_headers(server: Server, sent: bytes) -> None:
    head, _, _ = server.send(sent).partition(b"\r\n\r\n")
    assert status_of(head) in {200, 303, 400, 403, 404, 422}
    assert b"evil" not in head.lower()


def test_the_redirect_ignores_the_host_header(server: Server) -> None:
    body = b"text=milk"
    head = (
        f"POST / HTTP/1.0\r\nHost: evil.localhost\r\n{FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert b"\r\nLocation: /?added=" in server.send(head.encode() + body)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("X-Nul: a\0b", 400),
        ("X-Cr: a\rb", 400),
        ("X-Lf: a\nb", 400),
        ("no colon", 400),
        (": no name", 400),
        ("Sp ace: x", 400),
        ("X: a\r\n folded", 200),
    ],
)
def test_unusual_headers_get_the_expected_status(server: Server, header: str, status: int) -> None:
    answer = server.send(f"GET / HTTP/1.0\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
    assert status_of(answer) == status


def test_headers_too_long_or_too_many_return_431(server: Server) -> None:
    assert status_of(server.send(get("/", "Cookie: " + "x" * 17_000))) == 431
    assert status_of(server.send(get("/", *["X: y"] * 5_000))) == 431


def test_a_cross_site_post_is_refused(server: Server) -> None:
    answer = server.send(post(b"text=forged", "Sec-Fetch-Site: cross-site"))
    assert status_of(answer) == 403
    assert not is_listed(server, "forged")


def test_bytes_that_are_not_http_do_no_harm(server: Server) -> None:
    assert status_of(server.send(b"\x00\xff\r\n\r\n")) == 400
    with server.connect() as connection:
        connection.sendall(b"\r\n\r\n\r\n")
    with server.connect() as connection:
        connection.sendall(b"GET")


@POSIX_ONLY
def test_clients_may_disconnect_in_the_middle_of_a_request(server: Server) -> None:
    for sent in (b"", b"POST", post(b"text=half")[:-2], post(b"text=hung+up")):
        connection = server.connect()
        connection.sendall(sent)
        # With a linger time of 0, close() sends a RST instead of a FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert not is_listed(server, "ha")


def test_slow_clients_do_not_block_others(server: Server) -> None:
    slow = [server.connect() for _ in range(300)]
    try:
        for connection in slow:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Le")
        assert status_of(server.send(get())) == 200
    finally:
        for connection in slow:
            connection.close()
