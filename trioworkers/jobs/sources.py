"""Ready-made sources for `Context.iterate`: each begins after a cursor.

```python
async for number in ctx.iterate("numbers", sources.numbers(1_000_000)): ...
async for row in ctx.iterate("import", sources.lines("customers.csv"), every=1000): ...
async for page in ctx.iterate("pages", sources.pages(ctx.http, "https://api.example.com/orders", next_url)): ...
```
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    import os

    import httpx

    from trioworkers.jobs.iteration import Source

T = TypeVar("T")

MAX_LINE = 16 << 20
_CHUNK = 1 << 18


def numbers(start: int, stop: int | None = None, step: int = 1) -> Source[int]:
    """The numbers of `range(start, stop, step)`. The cursor is the number."""
    all_of_them = range(start) if stop is None else range(start, stop, step)

    async def source(cursor: Any) -> AsyncIterator[tuple[int, int]]:
        first = 0 if cursor is None else (cursor - all_of_them.start) // all_of_them.step + 1
        for number in all_of_them[max(0, first) :]:
            yield number, number

    return source


def items(values: Sequence[T]) -> Source[T]:
    """The members of a list that is the same in every attempt, or only grows. The cursor is the index."""

    async def source(cursor: Any) -> AsyncIterator[tuple[int, T]]:
        for index in range(0 if cursor is None else cursor + 1, len(values)):
            yield index, values[index]

    return source


def lines(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> Source[str]:
    r"""The lines of a file, without their ends, read by a thread. The cursor is where the next one begins, in bytes.

    In `encoding`, lines must end with the byte `\\n`. Raises OSError; ValueError for a line over 16 MB; UnicodeDecodeError.
    """

    async def source(cursor: Any) -> AsyncIterator[tuple[int, str]]:
        at = 0 if cursor is None else cursor
        async with await trio.open_file(path, "rb") as file:
            await file.seek(at)
            rest = b""
            while chunk := await file.read(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise ValueError(f"{path}: the line at byte {at} is longer than {MAX_LINE >> 20} MB")
                for line in whole:
                    at += len(line) + 1
                    yield at, line.removesuffix(b"\r").decode(encoding)
            if rest:
                yield at + len(rest), rest.decode(encoding)

    return source


def pages(
    client: httpx.AsyncClient, url: str, next_url: Callable[[httpx.Response], str | None], **options: Any
) -> Source[httpx.Response]:
    """The pages of an HTTP API. `next_url(response)` returns the address of the next page, or None after the last. The cursor is this address.

    `options`: for `client.get`. Raises what `client.get` raises, and `httpx.HTTPStatusError` for an answer that is no success.
    """

    async def source(cursor: Any) -> AsyncIterator[tuple[str, httpx.Response]]:
        at = url if cursor is None else cursor
        while at:
            response = await client.get(at, **options)
            response.raise_for_status()
            at = next_url(response) or ""
            yield at, response

    return source


def by_link(response: httpx.Response) -> str | None:
    """For `pages`: the next address is in the header `Link` with `rel="next"`, as in GitHub's API (RFC 8288)."""
    link = response.links.get("next")
    return None if link is None else str(response.url.join(link["url"]))
