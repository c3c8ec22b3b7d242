"""Draws docs/joints.svg: `make docs`. A job's way, and where what it holds is taken and let go."""

from __future__ import annotations

import sys

BOXES = {  # name: (x, y, width, lines)
    "queue": (20, 90, 110, ["queue"]),
    "slots": (160, 20, 130, ["1 slots", "free? then fetch"]),
    "list": (160, 90, 130, ["in-progress list", "of one worker"]),
    "admission": (330, 90, 150, ["2 admission", "one script a batch"]),
    "attempt": (520, 90, 130, ["attempt", "(a cancel scope)"]),
    "settle": (690, 90, 150, ["settle", "a group of outcomes"]),
    "effects": (690, 170, 150, ["3 effects", "after the take"]),
    "parked": (330, 170, 150, ["parked", "a sixth place"]),
    "exits": (520, 170, 130, ["4 exits,", "departures: pure"]),
    "end": (880, 90, 110, ["its next place,", "or forgotten"]),
}
ARROWS = [  # from, to, words; a letter says from which side
    ("queue", "list", ""),
    ("slots", "list", ""),
    ("list", "admission", ""),
    ("admission", "attempt", "start"),
    ("admission", "parked", "no permit"),
    ("attempt", "settle", ""),
    ("exits", "effects", ""),
    ("settle", "effects", ""),
    ("settle", "end", ""),
]
HEIGHT = 46


def box(name: str) -> str:
    """One box with its words."""
    x, y, width, lines = BOXES[name]
    texts = "".join(
        f'<text x="{x + width / 2:g}" y="{y + 19 + 15 * number - 4 * (len(lines) == 1) + 8 * (len(lines) == 1):g}">{line}</text>'
        for number, line in enumerate(lines)
    )
    joint = ' class="joint"' if lines[0][0].isdigit() else ""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="6"{joint}/>{texts}'


def arrow(source: str, target: str, words: str) -> str:
    """An arrow between two boxes."""
    x1, y1, width1, _ = BOXES[source]
    x2, y2, width2, _ = BOXES[target]
    if y1 == y2:
        start, end = (x1 + width1, y1 + HEIGHT / 2), (x2, y2 + HEIGHT / 2)
    else:
        start, end = (x1 + width1 / 2, y1 + HEIGHT), (x2 + width2 / 2, y2)
    at = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 5)
    label = f'<text class="words" x="{at[0]:g}" y="{at[1]:g}">{words}</text>' if words else ""
    return f'<path d="M{start[0]:g},{start[1]:g} L{end[0]:g},{end[1]:g}" marker-end="url(#tip)"/>{label}'


def picture() -> str:
    """The whole picture."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1010 260" font-family="sans-serif" font-size="12" text-anchor="middle">',
        "<title>A job's way through slots, admission, effects, exits and departures</title>",
        "<style>rect{fill:#fff;stroke:#555}.joint{fill:#e6f0ff;stroke:#2563eb;stroke-width:2}path{stroke:#555;fill:none}.words{font-size:11px;fill:#555}</style>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        '<rect x="0" y="0" width="1010" height="260" style="stroke:none"/>',
        *map(box, BOXES),
        *(arrow(*each) for each in ARROWS),
        '<path d="M765,216 L765,236 L405,236 L405,216" marker-end="url(#tip)"/><text class="words" x="585" y="231">fill: a permit that is free goes to the one parked longest</text>',
        '<path d="M330,193 L75,193 L75,136" marker-end="url(#tip)"/><text class="words" x="200" y="188">woken: next in turn, its permit reserved</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(picture())
