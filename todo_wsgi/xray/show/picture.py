"""The picture: lanes, and the messages between them, as an SVG (a UML sequence diagram).

Its lanes stand at percentages of the width and its texts keep their size, so it fits a phone.
"""

from xml.etree.ElementTree import Element

from todo_wsgi.xray.story.document import Message, element

_TOP, _STEP = 40, 30  # heights
_LANES = ["8%", "36%", "64%", "92%"]  # from the left


def draw(lanes: list[str], messages: list[Message]) -> Element:
    """Return the picture as SVG, with a description in words as its title."""
    height = str(_TOP + _STEP * len(messages) + 10)
    words = (f"{lanes[m.sender]} to {lanes[m.receiver]}: {m.text}" for m in messages)
    tip = element("path", d="M0 0 8 4 0 8z")
    box = {"viewBox": "0 0 8 8", "refX": "8", "refY": "4", "markerWidth": "8", "markerHeight": "8"}
    drawn = [element("marker", tip, id="tip", orient="auto-start-reverse", **box)]
    for x, name in zip(_LANES, lanes, strict=True):
        drawn.append(element("text", name, x=x, y="16", text_anchor="middle", class_="head"))
        drawn.append(element("line", x1=x, y1="24", x2=x, y2=height, class_="lane"))
    for row, message in enumerate(messages):
        drawn += _arrow(message, _TOP + _STEP * row + 16)
    title = element("title", "; ".join(words), id="drawn")
    size = {"height": height, "width": "100%"}
    return element(
        "svg", title, *drawn, class_="picture", role="img", aria_labelledby="drawn", **size
    )


def _arrow(message: Message, y: int) -> tuple[Element, Element]:
    """Return the line of a message, and the text above it, which stays inside the picture."""
    left, right = sorted([message.sender, message.receiver])
    ends = {"marker_end": "url(#tip)"}
    if message.is_answered:
        ends["marker_start"] = "url(#tip)"
    x1, x2 = _LANES[message.sender], _LANES[message.receiver]
    line = element("line", x1=x1, x2=x2, y1=str(y), y2=str(y), **ends)
    place = {"x": _LANES[left], "dx": "10"}
    if right == len(_LANES) - 1:  # a long text goes on to the left
        place = {"x": _LANES[right], "dx": "-10", "text_anchor": "end"}
    return line, element("text", message.text, y=str(y - 5), **place)
