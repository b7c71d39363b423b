"""Texts of models and documents as a terminal may show them: nothing in them moves the cursor or turns a line round."""

from __future__ import annotations

import unicodedata

# Unicode's categories of what controls, formats or has no shape of its own
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str) -> str:
    """Every character shows: no control sequence, no change of direction, a line end as an arrow."""
    lines = text.replace("\r\n", "\n").replace("\n", "↵")
    return "".join(
        char if unicodedata.category(char) not in _UNSEEN else f"\\u{ord(char):04x}" for char in lines
    )


def printable_lines(text: str) -> str:
    """The same of a text that keeps its lines and tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def ending(text: str, length: int) -> str:
    """The last so many characters, printable: of a prompt the document's own part."""
    return printable(text if len(text) <= length else "…" + text[-length:])


def beginning(text: str, length: int) -> str:
    """The first so many characters, printable."""
    return printable(text if len(text) <= length else text[:length] + "…")


def number(value: float) -> str:
    """Four significant digits, or what is left of the decimal point where that is more; powers of ten beyond."""
    if abs(value) >= 1e7 or 0 < abs(value) < 5e-5:
        return f"{value:.1e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def short_count(count: int) -> str:
    """A large count with its letter: 135M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
