def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]


if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    print("Open http://127.0.0.1:8000/ (Ctrl-C stops)")
    make_server("127.0.0.1", 8000, app).serve_forever()
