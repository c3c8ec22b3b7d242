"""What Redis's refusals mean, by their words: it has no codes for them."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r"NOPERM|no permission|can't (?:run|access)|ACL failure", re.IGNORECASE)


def is_forbidden(text: str) -> bool:
    """Whether our user may not do something, or not at that key; by itself or within a script."""
    return _FORBIDDEN.search(text) is not None
