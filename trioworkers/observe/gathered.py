"""What several processes count, as if they were one: gathered from each (`shared`) when somebody wants to know.

A process that has ended is still counted, else sums would fall, and Prometheus would take that for a new beginning of all. Its last word is the file that it
left in the place of its socket; of one that was killed, what it said last. Who gathers may be started anew itself: then what is there already isn't counted again.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
from prometheus_client.core import GaugeMetricFamily, Metric

from trioworkers.observe.metrics import render
from trioworkers.observe.shared import SUFFIX, Told, decode

PATIENCE_S = 2.0
"""All together have so long to answer."""
MOST_BYTES = 16 << 20
_NOT_ADDED = {"trioworkers_redis_up": min, "trioworkers_event_loop_lag_seconds": max}
"""Gauges of which the worst counts; all others are added."""

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""Its name, and its labels."""
Values = dict[Sample, float]


@attrs.define
class _Family:
    kind: str
    about: str
    values: Values = attrs.field(factory=dict)


@attrs.define
class _Asked:
    """What was found in the directory, by process."""

    said: dict[str, list[Told] | None] = attrs.field(factory=dict)
    """None: of one that is there, and silent."""
    ended: dict[str, list[Told] | None] = attrs.field(factory=dict)
    """What those have left that are gone; None for what isn't whole."""


class Gathered:
    """Of all processes that tell in `directory`. `goes_on`: whether somebody has gathered there before."""

    def __init__(self, directory: Path, *, goes_on: bool = False) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._last: dict[str, list[Told]] = {}
        """By process, what it said last."""
        self._ended: dict[str, _Family] = {}
        """Counted by those that have ended."""
        self._before: dict[str, dict[str, _Family]] = {}
        """By process, what it had counted when we began."""
        self._unheard: set[str] = set()
        """Those that were there when we began, and silent: what they had counted is what they say first."""
        if goes_on:
            self._begin_anew()

    def text(self) -> bytes:
        """As Prometheus reads it. From any thread; takes two seconds at most."""
        with self._lock:
            return render(self._families())

    def _begin_anew(self) -> None:
        asked = self._ask()
        for name in asked.ended:
            self._forget(name)
        for name, told in asked.said.items():
            self._unheard.add(name)
            if told is not None:
                self._hear(name, told)

    def _hear(self, name: str, told: list[Told]) -> None:
        if name in self._unheard:
            self._unheard.remove(name)
            self._before[name] = _added({}, told, counted_only=True)
        self._last[name] = told

    def _families(self) -> Iterator[Metric]:
        asked = self._ask()
        for name, told in (asked.said | asked.ended).items():
            if told is not None:
                self._hear(name, told)
        self._bury(asked)
        found = {name: _Family(each.kind, each.about, dict(each.values)) for name, each in self._ended.items()}
        for name, told in self._last.items():
            _added(found, told, counted_only=asked.said.get(name) is None)
            _subtracted(found, self._before.get(name, {}))
        yield GaugeMetricFamily(
            "trioworkers_worker_processes",
            "Processes whose figures are in this",
            value=sum(told is not None for told in asked.said.values()),
        )
        for name, family in found.items():
            yield _metric(name, family)

    def _bury(self, asked: _Asked) -> None:
        """Count once and for all what those have counted that are gone since."""
        for name in [name for name in self._last if name not in asked.said]:
            _added(self._ended, self._last.pop(name), counted_only=True)
            _subtracted(self._ended, self._before.pop(name, {}))
        for name in asked.ended:
            self._forget(name)
        self._unheard &= asked.said.keys()

    def _forget(self, name: str) -> None:
        (self._directory / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def _ask(self) -> _Asked:
        """What each process says. Those that were killed are cleared away."""
        asked = _Asked()
        with selectors.DefaultSelector() as selector:
            for path in self._directory.glob(f"*{SUFFIX}"):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.setblocking(False)  # noqa: FBT003 - the socket's own interface
                try:
                    connection.connect(str(path))
                except BlockingIOError:  # many wait there already
                    asked.said[path.stem] = None
                    connection.close()
                except OSError:
                    connection.close()
                    self._look_at(path, asked)
                else:
                    asked.said[path.stem] = None
                    selector.register(connection, selectors.EVENT_READ, (path.stem, bytearray()))
            for name, text in _read(selector, time.monotonic() + PATIENCE_S):
                asked.said[name] = decode(text)
        return asked

    def _look_at(self, path: Path, asked: _Asked) -> None:
        """Nobody listens there: it is what somebody has left, or the socket of one that was killed."""
        with suppress(OSError):  # gone meanwhile
            if path.is_file():
                asked.ended[path.stem] = decode(path.read_bytes())
            else:
                path.unlink(missing_ok=True)


def _read(selector: selectors.BaseSelector, until: float) -> Iterator[tuple[str, bytes]]:
    """What comes from each in time. Closes all."""
    while selector.get_map() and (left_s := until - time.monotonic()) > 0:
        for key, _ in selector.select(left_s):
            name, text = key.data
            try:
                part = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            text += part
            if not part or len(text) > MOST_BYTES:
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                yield name, bytes(text)
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]


def _added(into: dict[str, _Family], told: Iterable[Told], *, counted_only: bool) -> dict[str, _Family]:
    for each in told:
        is_gauge = each.kind == "gauge"
        if is_gauge and counted_only:
            continue
        values = into.setdefault(each.name, _Family(each.kind, each.about)).values
        for name, labels, value in each.samples:
            sample = name, tuple(labels)
            if is_gauge and each.name in _NOT_ADDED:
                values[sample] = _NOT_ADDED[each.name](values.get(sample, value), value)
            else:
                values[sample] = values.get(sample, 0.0) + value
    return into


def _subtracted(from_: dict[str, _Family], before: dict[str, _Family]) -> None:
    for name, family in before.items():
        if name in from_:
            for sample, value in family.values.items():
                from_[name].values[sample] = from_[name].values.get(sample, 0.0) - value


def _metric(name: str, family: _Family) -> Metric:
    metric = Metric(name, family.about, family.kind)
    for (sample, labels), value in family.values.items():
        metric.add_sample(sample, dict(labels), value)
    return metric
