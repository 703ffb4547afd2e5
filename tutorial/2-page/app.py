import html
from string import Template
from urllib.parse import parse_qs

PAGE = Template("""<!doctype html>
<html lang="en">
<title>Hello</title>
<h1>Hello, $name!</h1>
""")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/":
        query = parse_qs(environ["QUERY_STRING"])
        name = query.get("name", ["world"])[0]
        status, page = "200 OK", make_page(name)
    else:
        status, page = "404 Not Found", "There is nothing here."
    body = page.encode()
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
    ]
    start_response(status, headers)
    return [body]


def make_page(name):
    return PAGE.substitute(name=html.escape(name))


if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    print("Open http://127.0.0.1:8000/ (Ctrl-C stops)")
    make_server("127.0.0.1", 8000, app).serve_forever()
