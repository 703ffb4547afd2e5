"""Draw the icons for home screens from static/icon.svg: `python tests/icons.py static`."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path

from browsers import running_browser
from playwright.sync_api import Browser
from servers import ROOT

SIZES = (192, 512)  # the ones that Android asks for; iOS takes the smaller one
# A system may cut off all but a circle of 80 % of the width (W3C Web App Manifest, "Icon masks"):
# so the ground reaches the edges, and the tick stays away from them.
SQUARE = [
    ('viewBox="0 0 32 32"', 'viewBox="-2 -2 36 36"'),
    ('width="32" height="32" rx="7"', 'x="-2" y="-2" width="36" height="36"'),
]
DRAW = """
    async ([svg, size]) => {
        const image = new Image();
        image.src = "data:image/svg+xml," + encodeURIComponent(svg);
        await image.decode();
        const canvas = new OffscreenCanvas(size, size).getContext("2d");
        canvas.drawImage(image, 0, 0, size, size);
        return [...canvas.getImageData(0, 0, size, size).data].filter((_, i) => i % 4 == 0);
    }
"""


def main(browser: Browser, folder: Path) -> None:
    """Write home-192.png and home-512.png into the folder."""
    svg = (ROOT / "static/icon.svg").read_text()
    for old, new in SQUARE:
        assert old in svg
        svg = svg.replace(old, new)
    ground = bytes.fromhex(re.findall('fill="#([0-9a-f]{6})"', svg)[0])
    with browser.new_page() as page:
        for size in SIZES:
            reds = page.evaluate(DRAW, [svg, size])
            (folder / f"home-{size}.png").write_bytes(make_png(size, reds, ground))


def make_png(size: int, reds: list[int], ground: bytes) -> bytes:
    """Return a PNG in 16 colours, from that of the ground to white; `reds` are its pixels.

    Half a byte for a pixel makes the file a fifth of a screenshot (W3C PNG, "Indexed-colour").
    """
    palette = bytes(c + (255 - c) * step // 15 for step in range(16) for c in ground)
    steps = [round((red - ground[0]) * 15 / (255 - ground[0])) for red in reds]
    pairs = bytes(left << 4 | right for left, right in zip(steps[::2], steps[1::2], strict=True))
    rows = (b"\0" + pairs[i : i + size // 2] for i in range(0, len(pairs), size // 2))
    header = struct.pack(">IIBBBBB", size, size, 4, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(b"".join(rows), 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )


if __name__ == "__main__":  # pragma: no cover  # a test calls main
    with running_browser() as browser:
        main(browser, Path(sys.argv[1]))
