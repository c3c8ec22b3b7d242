"""Shapes of graphs at random: wide, deep, diamonds, in layers, and all of these in one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import attrs

POLICIES = ("wait", "cancel", "run")
MAX_EDGES = 8_000


@attrs.frozen
class Layer:
    """Some members that wait for the same others: those of the layers `after`, by their number. `on_failure`: what becomes of them then."""

    count: int
    after: tuple[int, ...]
    on_failure: str


def random_graph(chance: random.Random, most: int, weights: Sequence[int] = (3, 1, 3)) -> list[Layer]:
    """About `most` members at most, which wait for each other; `weights`: of the three policies."""
    layers: list[Layer] = []
    edges = 0
    for count, after in chance.choice(SHAPES)(chance, most):
        before = sum(layers[number].count for number in after)
        fits = edges + count * before <= MAX_EDGES
        edges += count * before if fits else 0
        [policy] = chance.choices(POLICIES, weights)
        layers.append(Layer(count, tuple(after) if fits else (), policy))
    return layers


Shape = Iterator[tuple[int, Sequence[int]]]


def _wide(chance: random.Random, most: int) -> Shape:
    """One, then all the others side by side, then one that waits for these."""
    del chance
    yield from ((1, ()), (max(1, most - 2), (0,)), (1, (1,)))


def _deep(chance: random.Random, most: int) -> Shape:
    """One after the other, some of which wait for one long before as well."""
    yield 1, ()
    for number in range(1, most):
        yield 1, (number - 1, chance.randrange(number)) if chance.random() < 0.2 else (number - 1,)


def _diamonds(chance: random.Random, most: int) -> Shape:
    """One, some side by side, one that waits for these, and again."""
    yield 1, ()
    count, last = 1, 0
    while count + 2 <= most:
        width = min(chance.randint(1, 40), most - count - 1)
        yield from ((width, (last,)), (1, (last + 1,)))
        count, last = count + width + 1, last + 2


def _layers(chance: random.Random, most: int) -> Shape:
    """Layers that wait for any of those before."""
    count = number = 0
    while count < most:
        size = min(chance.choice([1, 1, 3, 10, 40]), most - count)
        yield size, chance.sample(range(number), min(number, chance.choice([0, 1, 1, 2, 5])))
        count, number = count + size, number + 1


def _mixed(chance: random.Random, most: int) -> Shape:
    """Some of these side by side in one batch, the later ones after what comes before."""
    first = 0
    for _ in range(4):
        shape = chance.choice((_wide, _deep, _diamonds, _layers))
        made = list(shape(chance, max(1, most // 4)))
        waits = chance.random() < 0.5
        for size, after in made:
            yield size, [first + number for number in after] or ([first - 1] if first and waits else [])
        first += len(made)


SHAPES: tuple[Callable[[random.Random, int], Shape], ...] = (_wide, _deep, _diamonds, _layers, _mixed)
