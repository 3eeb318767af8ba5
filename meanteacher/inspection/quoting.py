"""Overrides as a shell takes them: values that Hydra and the shell would read in another way are quoted for both."""

import re
import shlex

_PLAIN = re.compile(r"[A-Za-z_./-][\w./-]*", re.ASCII)
_WORDS = {"null", "true", "false", "inf", "nan", "-inf", "+inf"}


def quote_value(text: str) -> str:
    """Text as a value of an override that Hydra reads back as the same text: in quotes unless it is a plain word."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # a backslash is doubled where it stands before a quote, the end or an interpolation, and taken as it is elsewhere
    text = re.sub(r"(\\*)(\"|\$\{|$)", lambda match: match[1] * 2 + ("\\" if match[2] else "") + match[2], text)
    return f'"{text}"'


def join_command(overrides: dict[str, str], width: int = 90) -> str:
    """The command that trains with these overrides, for a shell, on lines of about `width` characters.

    Values must be quoted for Hydra already.
    """
    lines = ["meanteacher train"]
    for word in (shlex.quote(f"{key}={value}") for key, value in overrides.items()):
        if len(lines[-1]) + len(word) > width:
            lines.append("   ")
        lines[-1] += f" {word}"
    return " \\\n".join(lines)
