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
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(text: str, seconds: float | None):
    assert retry_after_s({"retry-after": text}, datetime(2026, 1, 2, tzinfo=UTC)) == seconds
