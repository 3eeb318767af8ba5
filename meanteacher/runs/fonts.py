"""Fonts for class names of any script in the pictures of a run."""

import functools

UNUSABLE = "Last Resort"
"""A font of matplotlib that draws a box for every character; names that begin so are skipped."""


def choose_fonts(names: list[str]) -> tuple[list[str], list[str]]:
    """The families of installed fonts that draw these names, matplotlib's default first, and the names to draw.

    A name with a character that no installed font has is replaced by its position in the list. A dollar sign is
    escaped, because matplotlib would read a formula.
    """
    from matplotlib import font_manager

    default = font_manager.findfont(font_manager.FontProperties())
    families = [font_manager.FontProperties(fname=default).get_name()]
    missing = {ord(character) for name in names for character in name} - characters(default)
    for font in font_manager.fontManager.ttflist if missing else ():
        if not font.name.startswith(UNUSABLE) and (added := missing & characters(font.fname)):
            families.append(font.name)
            missing -= added
    drawn = [str(k) if missing & set(map(ord, name)) else name.replace("$", r"\$") for k, name in enumerate(names)]
    return families, drawn


@functools.cache
def characters(path: str) -> frozenset[int]:
    """The code points that a font file can draw; none for a file that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
