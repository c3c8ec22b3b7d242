"""What docs/observability.md takes for granted."""

import fastapi
import trio

from trioworkers import App
from trioworkers.health import Health

app = App()


@app.handler("work")
async def work() -> None: ...


api = fastapi.FastAPI()
REAL = "without one"


class worker:  # noqa: N801 - of the second program; the first one's has its own
    @staticmethod
    def health() -> Health:
        return Health(live=True, ready=False, drained=False, text="stopping")


def check(names, server):
    from trioworkers.observe.tracing import OpenTelemetry  # noqa: PLC0415 - the page has imported it

    assert isinstance(names["app"].telemetry, OpenTelemetry)
    response = fastapi.Response()
    assert (names["ready"](response), response.status_code) == ("stopping", 503)
    names["app"] = app  # the first program's
    trio.run(runs, names)


async def runs(names):
    """Its main, until the worker's record is there."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names["main"])
            while b"trioworkers_redis_up 1" not in names["metrics"].text():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
