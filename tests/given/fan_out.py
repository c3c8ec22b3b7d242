"""What docs/fan-out.md takes for granted."""

import attrs
import httpx

from trioworkers import App, Breaker, Context, Http, Limit  # noqa: F401

GENERIC_URL, GOOGLE_URL = "https://generic.example/users", "https://google.example/users"
posted = []
app = FIRST = App()
http = httpx.AsyncClient(
    transport=httpx.MockTransport(lambda request: posted.append(str(request.url)) or httpx.Response(200))
)


@attrs.frozen
class User:
    id: int
    email: str


async def during(names, test):
    await test.enqueue(names["track_user"].job(User(7, "a@example.org")))
    await test.drain()
    assert sorted(posted) == [GENERIC_URL, GOOGLE_URL]


todo = []


@app.handler("inside")
async def part(ctx: Context) -> None:
    names, block = todo.pop()
    names["ctx"] = ctx
    await block()


async def inside(names, block, test):
    """The program with `ctx` is part of a handler."""
    todo.append((names, block))
    await test.perform(part)
