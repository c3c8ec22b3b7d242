"""The app of the module that APP names, in a worker that promotes nothing: what waits for its next attempt lies still, however long a test takes. As `still.rb`."""

from __future__ import annotations

import importlib
import os

from trioworkers.engine.maintenance import Promoter


async def promote_nothing(promoter: Promoter) -> float:
    del promoter
    return 3600.0


Promoter.promote = promote_nothing  # type: ignore[method-assign]
app = importlib.import_module(os.environ["APP"]).app
