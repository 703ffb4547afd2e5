"""The picture: lanes, and the messages between them, as an SVG (a UML sequence diagram).

Its lanes stand at percentages of the width and its texts keep their size, so it fits a phone.
"""

from xml.etree.ElementTree import Element

from todo_wsgi.xray.story.document import Message, element

_TOP, _STEP = 40, 30  # heights
_LANES = ["8%", "36%", "64%", "92%"]  # from the left


def draw(lanes: list[str], messages: list[Message]) -> Element:
    """Return the picture as SVG, with a description in words as its title."""
    height = _TOP + _STEP * len(messages) + 10
    words = (f"{lanes[m.sender]} to {lanes[m.receiver]}: {m.text}" for m in messages)
    head = element("path", d="M0 0 8 4 0 8z")
    size = {"viewBox": "0 0 8 8", "refX": "8", "refY": "4", "markerWidth": "8", "markerHeight": "8"}
    marker = element("marker", head, id="head", orient="auto-start-reverse", **size)
    return element(
        "svg",
        element("title", "; ".join(words), id="drawn"),
        marker,
        *(_lane(x, name, height) for x, name in zip(_LANES, lanes, strict=True)),
        *(_message(message, row) for row, message in enumerate(messages)),
        class_="picture",
        role="img",
        aria_labelledby="drawn",
        height=str(height),
        width="100%",
    )


def _lane(x: str, name: str, end: int) -> Element:
    return element(
        "g",
        element("text", name, x=x, y="16", text_anchor="middle", class_="head"),
        element("line", x1=x, y1="24", x2=x, y2=str(end), class_="lane"),
    )


def _message(message: Message, row: int) -> Element:
    sender, receiver = _LANES[message.sender], _LANES[message.receiver]
    y = _TOP + _STEP * row + 16
    is_right = max(message.sender, message.receiver) == len(_LANES) - 1
    ends = {"marker-end": "url(#head)"} | (
        {"marker-start": "url(#head)"} if message.is_answered else {}
    )
    line = element("line", x1=sender, x2=receiver, y1=str(y), y2=str(y), **ends)
    text = element(
        "text",
        message.text,
        x=_LANES[-1] if is_right else min(sender, receiver, key=_LANES.index),
        dx="-10" if is_right else "10",
        y=str(y - 5),
        text_anchor="end" if is_right else "start",
    )
    return element("g", line, text)
