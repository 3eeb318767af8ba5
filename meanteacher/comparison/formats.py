"""Numbers as text."""


def format_duration(seconds: float) -> str:
    """`6.5 s`, `45 s`, `12 min` or `3.4 h`, by size."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{seconds / 60:.1f} min" if seconds < 597 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
