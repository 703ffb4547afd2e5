"""The picture: lanes, and the messages between them, as an SVG (a UML sequence diagram)."""

from todo_wsgi.presentation.templating import SafeHTML, Template
from todo_wsgi.xray.story.blocks import Message, Picture

# In units of the SVG, which is scaled to the page.
_WIDTH, _TOP, _STEP = 960, 48, 36
_LANES = [150, 380, 640, 900]  # from the left

_PICTURE = Template(
    '<div class="picture" tabindex="0" role="region" aria-label="Picture">\n'
    '<svg viewBox="0 0 960 $height" role="img" aria-labelledby="drawn">\n'
    '<title id="drawn">$title</title>\n'
    "$lanes$messages</svg>\n</div>\n"
)
_LANE = Template(
    '<text class="head" x="$x" y="20" text-anchor="middle">$name</text>\n'
    '<line class="lane" x1="$x" y1="30" x2="$x" y2="$end"/>\n'
)
_MESSAGE = Template(
    '<text class="time" x="0" y="$y">$time</text>\n'
    '<line x1="$sender" y1="$y" x2="$receiver" y2="$y"/>\n'
    '<path d="M$receiver $y l$back -4 v8 z"/>\n'
    '<text x="$middle" y="$above" text-anchor="middle">$text</text>\n'
    '<text class="took" x="$middle" y="$below" text-anchor="middle">$took</text>\n'
)


def draw(picture: Picture) -> SafeHTML:
    """Return the picture as SVG, with a description in words as its title."""
    height = _TOP + _STEP * len(picture.messages) + 16
    lanes = [
        _LANE.render(x=x, name=name, end=height)
        for x, name in zip(_LANES, picture.lanes, strict=True)
    ]
    messages = [_draw_message(message, row) for row, message in enumerate(picture.messages)]
    names = picture.lanes
    words = (f"{names[m.sender]} to {names[m.receiver]}: {m.text}" for m in picture.messages)
    return _PICTURE.render(
        height=height,
        title="; ".join(words),
        lanes=SafeHTML("".join(lanes)),
        messages=SafeHTML("".join(messages)),
    )


def _draw_message(message: Message, row: int) -> SafeHTML:
    sender, receiver = _LANES[message.sender], _LANES[message.receiver]
    y = _TOP + _STEP * row + 16
    return _MESSAGE.render(
        time=message.time,
        sender=sender,
        receiver=receiver,
        back=-8 if receiver > sender else 8,
        middle=(sender + receiver) // 2,
        y=y,
        above=y - 5,
        below=y + 14,
        text=message.text,
        took=message.took,
    )
