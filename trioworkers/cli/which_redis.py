"""Which Redis a command means: as `chosen_redis.py` has it, in the words of a command line."""

from __future__ import annotations

import os

from trioworkers.chosen_redis import ChosenRedis, choose
from trioworkers.cli.usage import check_options, check_url


def which_redis(redis: str | None, namespace: str | None = None) -> ChosenRedis:
    """What `--redis` and `--namespace` say, else REDIS_URL, else a `dev` that runs here or above, else the default address.

    Raises WrongUsage.
    """
    check_options(namespace=namespace)
    check_url(redis, "--redis")
    if redis is None and (url := os.environ.get("REDIS_URL")):
        check_url(url, "REDIS_URL")
    return choose(redis, namespace, "--redis")
