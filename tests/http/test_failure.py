"""What a call's failure means, beyond what the tests of fan-outs see."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trioworkers.http.failure import retry_after_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("Fri, 02 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("9999999", 86400),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        (f"Fri, 31 Dec {'9' * 5000} 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("Fri, 02 Jan 2026 00:00:99999999999999999999 GMT", None),
        ("Fri, 02 Jan 2026 00:01:00 +99999999999999999999", None),
        ("9" * 90, 86400),
        ("9" * 5000, None),
        ("1e400", None),
        ("\u0663", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(text: str, seconds: float | None):
    assert retry_after_s({"retry-after": text}, datetime(2026, 1, 2, tzinfo=UTC)) == seconds
