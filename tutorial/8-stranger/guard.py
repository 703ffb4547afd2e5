from urllib.parse import urlsplit

MAX_BODY = 65_536  # bytes


def find_refusal(environ):
    if environ["REQUEST_METHOD"] != "POST":
        return None
    if int(environ.get("CONTENT_LENGTH") or 0) > MAX_BODY:
        return "413 Content Too Large"
    return "403 Forbidden" if is_from_another_site(environ) else None


def is_from_another_site(environ):
    host = environ.get("HTTP_HOST")
    origin = environ.get("HTTP_ORIGIN", f"http://{host}")
    is_own = urlsplit(origin).netloc == host
    site = environ.get("HTTP_SEC_FETCH_SITE")
    return site not in ("same-origin", "none") if site else not is_own
