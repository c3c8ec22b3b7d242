"""Which Redis a command means: as `chosen_redis.py` has it, in the words of a command line."""

from __future__ import annotations

import os

from trioworkers.chosen_redis import ChosenRedis, choose
from trioworkers.cli.shards import names_an_app, redises_of
from trioworkers.cli.usage import check_options, check_url
from trioworkers.errors import WrongUsage


def which_redis(redis: str | None, namespace: str | None = None) -> ChosenRedis:
    """What `--redis` and `--namespace` say, else REDIS_URL, else a `dev` that runs here or above, else the default address.

    Raises WrongUsage.
    """
    check_options(namespace=namespace)
    if redis is not None and names_an_app(redis):
        places = redises_of(redis, namespace)
        if len(places) > 1:
            raise WrongUsage(
                f"--redis: this command is for one Redis, and {redis} has several: name one, {redis}@SHARD ({', '.join(filter(None, places))})"
            )
        return next(iter(places.values()))
    check_url(redis, "--redis")
    if redis is None and (url := os.environ.get("REDIS_URL")):
        check_url(url, "REDIS_URL")
    return choose(redis, namespace, "--redis")
