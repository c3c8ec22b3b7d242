"""Lengths of time that are given as numbers: what is too long to be one was meant as a moment, or as milliseconds. Pure."""

from __future__ import annotations

MAX_SECONDS = 1_000_000_000
"""31 years. From there on Sidekiq's `perform_in`, too, takes a number for a moment."""
_MILLISECONDS = 100 * MAX_SECONDS


def is_moment(number: float) -> bool:
    """Whether a number that was given as seconds from now can't be meant so."""
    return number >= MAX_SECONDS


def said_of_moment(number: float) -> str:
    """What such a number seems to be, and what to write instead."""
    if number < _MILLISECONDS:
        whole = f"{number:.0f}"
        return f"{whole}, which looks like epoch seconds: write datetime.fromtimestamp({whole}, UTC)"
    shown = f"{number!r:.40}" if number < 1e300 else "that"  # an integer may have more digits than Python would write
    return f"{shown}, which looks like epoch milliseconds: write datetime.fromtimestamp(… / 1000, UTC)"
