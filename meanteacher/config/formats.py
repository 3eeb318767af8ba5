"""Durations as text."""


def format_duration(seconds: float) -> str:
    """A rounded duration for prose: `6.5 s`, `45 s`, `9.5 min`, `12 min` or `3.4 h`."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{seconds / 60:.1f} min" if seconds < 597 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_clock(seconds: float) -> str:
    """A duration as on a clock, for progress lines: `0:12`, `12:34` or `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
