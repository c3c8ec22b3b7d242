"""What Redis's own error texts mean, whoever reads them: may it go away by itself, and which error of ours it is."""

from __future__ import annotations

import re

from trioworkers.errors import BrokerError, CannotServe, Refused

_TEMPORARY = re.compile(
    r"(?:^|-|\s)(OOM|MISCONF|NOREPLICAS|BUSY|MASTERDOWN|LOADING|READONLY|NOSCRIPT|UNBLOCKED|CLUSTERDOWN|TRYAGAIN)\b"
)

SLOT_ELSEWHERE = "the slot of our keys is at another node of its cluster"
"""For what a node says of whose keys these are (MOVED, ASK): that alone says nothing to people."""
_OF_A_CLUSTER = (
    SLOT_ELSEWHERE,
    "Hash slot not served",
    "cluster is down",
    "hash to the same slot",
    "in a cluster node",
)


def refusal(text: str) -> BrokerError:
    """Our error for what Redis says in the reply of a script."""
    return (CannotServe if is_temporary(text) else Refused)(text)


def who_knows_more(text: str, url: str) -> str:
    """What to add for people to an error of the Redis at `url` that says neither which key nor which command it is about, or that it is no Redis by itself; "" for others."""
    if is_about_a_key(text):
        return "; somebody has written over a key: `trioworkers doctor` names it"
    if "no permission" in text or "NOPERM" in text or "can't access at least one of the keys" in text:
        return "; `trioworkers doctor` says what its user may not do"
    if "+cluster://" not in url and any(words in text for words in _OF_A_CLUSTER):
        return "; a cluster's URL is redis+cluster://HOST:PORT, and its namespace a pair of braces, like {shop}"
    return ""


def is_about_a_key(text: str) -> bool:
    """Whether an error of Redis says that a key is of another type than it should be: somebody has written over it."""
    return "wrong kind of value" in text


def is_temporary(text: str) -> bool:
    """Whether an error of Redis says that it may go away by itself."""
    return _TEMPORARY.search(text) is not None
