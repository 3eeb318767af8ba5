"""Durations as text."""

import pytest

from meanteacher.config.formats import format_clock, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (6.54, "6.5 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1.0 min"),
        (90, "1.5 min"),
        (596, "9.9 min"),
        (599, "10 min"),
        (3569, "59 min"),
        (3590, "1.0 h"),
        (12_240, "3.4 h"),
        (360_000, "100.0 h"),
    ],
)
def test_a_duration_is_rounded_and_never_shows_sixty_seconds_or_minutes(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (11.6, "0:12"), (59.7, "1:00"), (754, "12:34"), (3599.6, "1:00:00"), (3723, "1:02:03")],
)
def test_a_clock_rounds_to_seconds_and_shows_hours_only_if_there_are_any(seconds, text):
    assert format_clock(seconds) == text
