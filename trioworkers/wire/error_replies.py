"""What Redis's own error texts mean, whoever reads them: may it go away by itself, and which error of ours it is."""

from __future__ import annotations

import re

from trioworkers.errors import BrokerError, Refused, Unavailable

_TEMPORARY = re.compile(
    r"(?:^|-|\s)(OOM|MISCONF|NOREPLICAS|BUSY|MASTERDOWN|LOADING|READONLY|NOSCRIPT|UNBLOCKED|CLUSTERDOWN|TRYAGAIN)\b"
)


def refusal(text: str) -> BrokerError:
    """Our error for what Redis says in the reply of a script."""
    return (Unavailable if is_temporary(text) else Refused)(text)


def is_temporary(text: str) -> bool:
    """Whether an error of Redis says that it may go away by itself."""
    return _TEMPORARY.search(text) is not None
