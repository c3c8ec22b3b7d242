"""Which charset of an answer is followed.

Python takes any name for one: also of codecs that make no text (`zlib`), and of `punycode`, which holds the event loop for as long as the square
of the text's length. And it keeps each name that it doesn't know, for ever.
"""

from __future__ import annotations

import encodings
import pkgutil
from encodings.aliases import aliases
from functools import cache

_NOT_FOR_ANSWERS = frozenset({"punycode", "unicode_escape", "raw_unicode_escape"})


def is_followed(name: str) -> bool:
    """Whether a text is read by the charset of that name; else it is read as UTF-8, as one without a charset."""
    spelled = name.lower().replace("-", "_")
    codec = aliases.get(spelled, spelled)
    if codec in _NOT_FOR_ANSWERS or codec not in _codecs():
        return False
    try:
        b"a".decode(codec, "ignore")
    except (LookupError, UnicodeError):  # it makes no text, or always refuses
        return False
    return True


@cache
def _codecs() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__))
