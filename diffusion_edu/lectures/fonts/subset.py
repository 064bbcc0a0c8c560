"""How stix-two-math.woff2 was made: python subset.py STIXTwoMath-Regular.ttf (fonttools, brotli).

Fewer characters; and Chromium reserves for every sign that can grow the width of its largest form,
which leaves gaps behind small roots and brackets: the large forms are drawn narrower here. A
subscript hangs from the baseline, not from the foot of its letter, as TeX has it for letters.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["subset"]

RANGES = (
    "20-7E A0-17F 2B0-3FF 2000-209F 20D0-214F 2190-22FF 2308-230B 2320-2321 239B-23E3 25A0-25FE "
    "2713 2717 27E6-27EF 27F5-27FF 2980-2998 2A00-2AFF 1D400-1D7FF"
)
FEATURES = ["ssty", "flac", "dtls", "kern", "liga", "mark", "mkmk", "ccmp"]
ROOT = "\u221a"
WIDER = 1.36  # a large form may be so much wider than the small one
WIDER_ROOT = 1.08
DROP = -40  # of a subscript below the foot of its base


def subset(source: Path, out: Path) -> None:
    """Write the smaller font."""
    from fontTools import subset as tools

    options = tools.Options()
    options.flavor, options.hinting, options.name_IDs = "woff2", False, ["*"]
    options.layout_features, options.notdef_outline = FEATURES, True
    options.drop_tables += ["DSIG"]
    font = tools.load_font(str(source), options)
    _narrow(font)
    font["MATH"].table.MathConstants.SubscriptBaselineDropMin.Value = DROP
    subsetter = tools.Subsetter(options)
    subsetter.populate(unicodes=_characters())
    subsetter.subset(font)
    tools.save_font(font, str(out), options)


def _characters() -> set[int]:
    """The code points of RANGES."""
    found: set[int] = set()
    for part in RANGES.split():
        first, _, last = part.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return found


def _narrow(font: Any) -> None:
    """Cut the large forms of roots and brackets to nearly the width of the small one."""
    names, variants = font.getBestCmap(), font["MATH"].table.MathVariants
    done: set[str] = set()
    for sign in f"{ROOT}()[]{{}}\u2308\u2309\u230a\u230b\u27e8\u27e9":
        name = names[ord(sign)]
        index = variants.VertGlyphCoverage.glyphs.index(name)
        construction = variants.VertGlyphConstruction[index]
        most = round(font["hmtx"][name][0] * (WIDER_ROOT if sign == ROOT else WIDER))
        forms = [record.VariantGlyph for record in construction.MathGlyphVariantRecord]
        if construction.GlyphAssembly:
            forms += [part.glyph for part in construction.GlyphAssembly.PartRecords]
        for form in forms:
            if font["hmtx"][form][0] > most and form not in done:
                _squeeze(font, form, most)
            done.add(form)


def _squeeze(font: Any, name: str, width: int) -> None:
    from fontTools.pens.transformPen import TransformPen
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    factor = width / font["hmtx"][name][0]
    glyphs = font.getGlyphSet()
    pen = TTGlyphPen(glyphs)
    glyphs[name].draw(TransformPen(pen, (factor, 0, 0, 1, 0, 0)))
    glyph = pen.glyph()
    glyph.recalcBounds(font["glyf"])
    font["glyf"][name] = glyph
    font["hmtx"][name] = (width, glyph.xMin)


if __name__ == "__main__":
    subset(Path(sys.argv[1]), Path(__file__).with_name("stix-two-math.woff2"))
