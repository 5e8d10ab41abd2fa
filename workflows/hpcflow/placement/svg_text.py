"""Text in an SVG picture: how wide it will be, and where it is broken, without knowing the viewer's fonts."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

FONT = "font-family='Helvetica, Arial, sans-serif'"
MONO = "font-family='DejaVu Sans Mono, Menlo, Consolas, monospace'"
INK, SOFT, LINE = "#1f2933", "#616e7c", "#cbd2d9"
# Of the font's size: DejaVu Sans Mono's letters, and those of the widest font that may stand for Helvetica.
MONO_WIDTH, WIDTH, BOLD_WIDTH = 0.61, 0.62, 0.69


def text(x: float, y: float, said: str, size: float, fill: str, weight: str = "normal", font: str = FONT,
         anchor: str = "start") -> str:  # fmt: skip
    """One line of text; ``y`` is its base line."""
    kept = "preserve" if font == MONO else "default"
    return (
        f"<text x='{x:g}' y='{y:g}' {font} font-size='{size:g}' font-weight='{weight}' fill='{fill}' "
        f"text-anchor='{anchor}' xml:space='{kept}'>{escape(said)}</text>"
    )


def wrap(said: str, width: int) -> list[str]:
    """Lines of ``width`` letters at most, broken at blanks, and words that are longer after a comma or anywhere."""
    lines: list[str] = []
    for word in said.split():
        for piece, begins in _pieces(word, max(8, width - 2)):
            if lines and begins and len(lines[-1]) + 1 + len(piece) <= width:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece if not lines else f"  {piece}")
    return lines


def _pieces(word: str, width: int) -> Iterator[tuple[str, bool]]:
    """A word in pieces that fit, and whether a blank may stand before each."""
    begins = True
    while len(word) > width:
        cut = word.rfind(",", 0, width) + 1 or width
        yield word[:cut], begins
        word, begins = word[cut:], False
    yield word, begins
