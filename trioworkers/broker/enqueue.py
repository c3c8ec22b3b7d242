"""The script by which every client sends, whatever it speaks to Redis with: see `sending.py`."""

from __future__ import annotations

from trioworkers.broker.redis.scripts import script

ENQUEUE = script(__file__, "enqueue", keys=("*token",), args=("until_s", "*calls"), preludes=("send",))
