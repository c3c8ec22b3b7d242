"""The dashboard: an ASGI application of server-rendered pages, and a server for it. Extra `web`.

`trioworkers.web.asgi(app)` mounts in any ASGI program, Trio's or asyncio's; `trioworkers web` and `run --web` serve it themselves.
"""

from __future__ import annotations

from trioworkers.web.asgi import asgi
from trioworkers.web.guard import Auth, Visitor

__all__ = ["Auth", "Visitor", "asgi"]
