"""TrackUserJob: tell several analytics services about a user, all at once."""

from __future__ import annotations

import os

import attrs

from trioworkers import Bury, ConfigurationError, Context

from . import app

DEFAULT_SERVICES = ",".join(
    f"{name}=http://127.0.0.1:9876/{name}" for name in ("generic", "google", "mixpanel", "segment")
)


@attrs.frozen
class User:
    """Whom to tell about."""

    id: int
    name: str
    email: str
    url: str
    ip_address: str


def services(text: str) -> dict[str, str]:
    """Reads `generic=http://…,google=http://…`."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, url = part.partition("=")
        if not name or not url.startswith(("http://", "https://")) or name in found:
            raise ConfigurationError(f"TRACKING_SERVICES: {part!r} is not NAME=URL with a name of its own")
        found[name] = url
    return found


SERVICES = services(os.environ.get("TRACKING_SERVICES") or DEFAULT_SERVICES)


@app.handler("track", "TrackUserJob", timeout=30)
async def track_user(ctx: Context, user: User | int, *rest: str) -> None:
    """Takes `[id, name, email, url, ip_address]`, or one hash of the same."""
    if not isinstance(user, User):
        if len(rest) != 4:
            raise Bury(f"TrackUserJob takes 5 arguments or one hash, not {1 + len(rest)} arguments")
        user = User(user, *rest)
    async with ctx.fan_out() as fan:
        for name, url in SERVICES.items():
            fan.post(name, url, json=attrs.asdict(user))
