"""What of a batch waits for what, as a picture: rows of boxes, each below all that it waits for. Pure; what is drawn is also told as a list, for who can't see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

MOST_NODES = 60
MOST_EDGES = 400
MOST_IN_A_ROW = 8
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 40, 18, 44


@attrs.frozen
class Node:
    """One member. `state`: where it is; `before`: those that it waits for."""

    jid: str
    label: str
    state: str
    before: Sequence[str] = ()


@attrs.frozen
class Drawing:
    """`boxes`: each node with its place, `edges`: paths; `more`: how many nodes are left out. Sizes in the SVG's own units."""

    width: int
    height: int
    boxes: Sequence[tuple[Node, int, int]]
    edges: Sequence[str]
    more: int

    @property
    def box(self) -> tuple[int, int]:
        """How wide and high a box is."""
        return _WIDTH, _HEIGHT


def draw(nodes: Mapping[str, Node]) -> Drawing:
    """Those that are next first, as many as there is room for."""
    rows = _rows(nodes)
    places = {
        node.jid: (column * (_WIDTH + _GAP_X), line * (_HEIGHT + _GAP_Y))
        for line, row in enumerate(rows)
        for column, node in enumerate(row)
    }
    boxes = [(nodes[jid], x, y) for jid, (x, y) in places.items()]
    edges = [
        _edge(places[before], places[node.jid]) for node, _, _ in boxes for before in node.before if before in places
    ]
    widest = max((len(row) for row in rows), default=0)
    return Drawing(
        max(widest * (_WIDTH + _GAP_X) - _GAP_X, 0) + 2,
        max(len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y, 0) + 2,
        boxes,
        edges[:MOST_EDGES],
        len(nodes) - len(boxes),
    )


def _rows(nodes: Mapping[str, Node]) -> list[list[Node]]:
    """Layer by layer, each broken into lines of a few; at most `MOST_NODES` in all. What waits in a circle, which can't be sent, comes last."""
    left, done = dict(nodes), set[str]()
    rows: list[list[Node]] = []
    room = MOST_NODES
    while left and room > 0:
        layer = [node for node in left.values() if all(jid in done or jid not in nodes for jid in node.before)]
        layer = (layer or list(left.values()))[:room]
        for node in layer:
            left.pop(node.jid)
        done |= {node.jid for node in layer}
        room -= len(layer)
        rows += [layer[first : first + MOST_IN_A_ROW] for first in range(0, len(layer), MOST_IN_A_ROW)]
    return rows


def _edge(before: tuple[int, int], after: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = before, after
    x1, y1, x2 = x1 + _WIDTH // 2, y1 + _HEIGHT, x2 + _WIDTH // 2
    middle = (y2 - y1) // 2
    return f"M{x1} {y1}C{x1} {y1 + middle} {x2} {y2 - middle} {x2} {y2}"
