"""TeX of the lectures as MathML that browsers draw without any script.

``latex2mathml`` reads the TeX. What it leaves is mended here for MathML Core, the part of MathML
that browsers agree on: letters of another alphabet become characters of their own, boxes and
alignment become CSS classes, accents sit low, functions and fences keep their distance.
"""

from __future__ import annotations

import html
import re
import unicodedata
from xml.etree.ElementTree import Element, SubElement, tostring

__all__ = ["mathml"]

# latex2mathml knows these under another name, or guesses wrong which side a fence is of.
_RENAMED = (
    (r"\\(begin|end)\{aligned\}", r"\\\1{align*}"),
    (r"(?<!left)(?<!right)(?<!middle)(?<![bB]ig)(?<![bB]ig[lrm])(?<![bB]igg)\\l(V|v)ert(?![a-z])",
     r"\\mathopen{\\\1ert}"),
    (r"(?<!left)(?<!right)(?<!middle)(?<![bB]ig)(?<![bB]ig[lrm])(?<![bB]igg)\\r(V|v)ert(?![a-z])",
     r"\\mathclose{\\\1ert}"),
    (r"\\arg\\?,?\s*\\(min|max)(?![a-z])", r"\\arg\1"),
    (r"\\!", r"\\kern{-0.167em}"),
)  # fmt: skip
_ENVIRONMENTS = {"aligned", "align*", "split", "cases", "array"} | {
    f"{kind}matrix" for kind in ("", "p", "b", "v", "V", "small")
}
_ALPHABETS = {
    "bold": ("BOLD ", "BOLD "),
    "italic": ("ITALIC ", ""),
    "bold-italic": ("BOLD ITALIC ", "BOLD "),
    "double-struck": ("DOUBLE-STRUCK ", "DOUBLE-STRUCK "),
    "script": ("SCRIPT ", ""),
    "fraktur": ("FRAKTUR ", ""),
    "sans-serif": ("SANS-SERIF ", "SANS-SERIF "),
    "sans-serif-italic": ("SANS-SERIF ITALIC ", ""),
    "monospace": ("MONOSPACE ", "MONOSPACE "),
}
# Signs by their code points: the package's source is plain ASCII.
_SYMBOLS = {  # the letters of \epsilon, \vartheta and \phi, and \nabla
    "\u03f5": "EPSILON SYMBOL",
    "\u03d1": "THETA SYMBOL",
    "\u03d5": "PHI SYMBOL",
    "\u2207": "NABLA",
}
_DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_MACRON, _OVERLINE = "\u00af", "\u203e"
_ACCENTS = {  # as latex2mathml writes them, and as fonts have them
    **{_MACRON: _OVERLINE, "\u2015": _OVERLINE, "~": "\u02dc", "^": "\u02c6"},
    **{sign: sign for sign in "\u02d9\u00a8\u02c7\u2192"},  # dots, caron, arrow
}
_FUNCTION = re.compile(r"[A-Za-z][A-Za-z\u2006\u2009 ]+")
# Beside these signs a function needs no space: brackets, bars, angles, ceilings, floors.
_OPEN = set("([{)]}|/,;.!\u2016\u27e8\u27e9\u2308\u2309\u230a\u230b")
# approx, sim, le, ge, to, propto, ne, equiv, gets, Rightarrow, Leftrightarrow, :=, ll, gg
_RELATIONS = set(
    "=<>\u2248\u223c\u2264\u2265\u2192\u221d\u2260\u2261\u2190\u21d2\u21d4\u2254\u226a\u226b"
)
_SIM, _PRIME, _LETTERS = "\u223c", "\u2032", ("\u2026", "\u22ef", "\u221e")
_MINUS = ("\u2212", "-", "+", "\u00b1")
_SCRIPTS = ("msub", "msup", "msubsup", "munder", "munderover")
_BRACES = ("\u23df", "\u23de")
_SUMS = ("\u2211", "\u220f", "\u22c3", "\u22c2", "max", "min", "sup", "inf", "lim")
_LIMITS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
_LEADS = ("(", "[", "{", ",", ";", *_RELATIONS)
_PIECE = 14  # signs of an inline formula that are kept on one line


def mathml(tex: str, display: bool = False) -> str:
    """The <math> element of a formula; an inline one may be several, with places to break lines.

    Raises:
        ValueError: a command that is not known, or TeX that does not parse.
    """
    math = _parsed(tex, "block" if display else "inline")
    _mend(math)
    math.set("display", "block" if display else "inline")
    pieces = [math] if display else _pieces(math)
    label = html.escape(" ".join(tex.split()), quote=True)
    texts = [tostring(piece, encoding="unicode", short_empty_elements=False) for piece in pieces]
    if len(texts) == 1:
        return texts[0].replace("<math", f'<math data-tex="{label}"', 1)
    return f'<span class="formula" data-tex="{label}">{"<wbr>".join(texts)}</span>'


def _parsed(tex: str, display: str) -> Element:
    from latex2mathml.converter import Converter

    if not tex.strip():
        raise ValueError("an empty formula")
    for environment in re.findall(r"\\begin\{(.*?)\}", tex):
        if environment not in _ENVIRONMENTS:
            raise ValueError(f"unknown command \\begin{{{environment}}}")
    for pattern, name in _RENAMED:
        tex = re.sub(pattern, name, tex)
    try:
        math = Converter(display=display).convert_to_element(tex)
    except Exception as error:
        words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
        raise ValueError(f"{' '.join(words).lower()} {error}".strip()) from error
    del math.attrib["xmlns"]
    return math


# ---- mending -------------------------------------------------------------------------------------


def _mend(element: Element) -> None:
    for child in list(element):
        _mend(child)
    if element.tag == "mi" and re.fullmatch(r"&#x000(4|5|6|7)[0-9A-F];", element.text or ""):
        element.set("mathvariant", "normal")  # \mathrm{d}
    element.text = html.unescape(element.text) if element.text else element.text
    _check(element)
    mender = _MENDERS.get(element.tag)
    if mender is not None:
        mender(element)
    if element.tag in ("mrow", "mtd", "mstyle", "msqrt"):
        _sign_numbers(element)
        _space_functions(element)
    if element.tag in _SCRIPTS:
        _place_limits(element)
        for script in element[1:]:
            _tighten(script)


def _place_limits(element: Element) -> None:
    """Limits of sums stand below and above where there is room; a prime beside its letter."""
    base = element[0]
    movable = base.tag == "mo" and ((base.text or "") in _SUMS or base.get("movablelimits"))
    if movable and element.tag in _LIMITS:
        element.tag = _LIMITS[element.tag]
    if base.get("minsize"):  # it grows in a row only
        row = Element("mrow")
        row.append(base)
        element[0] = row
    if element.tag == "msup" and set("".join(element[1].itertext())) == {_PRIME}:
        element.tag = "mrow"


def _sign_numbers(row: Element) -> None:
    """A minus after a relation, a comma or a bracket belongs to what follows."""
    before: Element | None = None
    for child in row:
        if child.tag == "mo" and child.text in _MINUS:
            blank = before is None or (before.tag == "mi" and not before.text)
            if blank and row.tag == "mtd" and before is not None:
                pass  # after the & of an alignment, it stays a sign between two terms
            elif blank or (before is not None and before.tag == "mo" and before.text in _LEADS):
                child.set("form", "prefix")
        if child.tag != "mspace":
            before = child


def _tighten(script: Element) -> None:
    """No space around the signs in an index: TeX's t-1."""
    for sign in script.iter("mo"):
        if sign.get("stretchy") != "true" and sign.text not in _BRACES:
            sign.set("lspace", "0")
            sign.set("rspace", "0")


def _check(element: Element) -> None:
    text = element.text or ""
    if element.tag != "mtext" and "&" in text:
        raise ValueError("& outside of an aligned environment")
    if found := re.search(r"\\\S*|\$", text):
        raise ValueError(f"unknown command {found[0]}")
    few = {"mfrac": 2, "msup": 2, "msub": 2, "msubsup": 3, "mover": 2, "munder": 2, "munderover": 3}
    if len(element) < few.get(element.tag, 0):
        raise ValueError(f"{element.tag} misses an argument")


def _letters(element: Element) -> None:
    text = element.text or ""
    variant = element.get("mathvariant")
    if variant in _ALPHABETS:
        del element.attrib["mathvariant"]
        element.text = "".join(_of_alphabet(letter, variant) for letter in text)
    if text == "~":  # \sim
        element.tag, element.text = "mo", _SIM
        element.attrib.pop("mathvariant", None)
    if text in (";", ",", ":"):
        element.tag = "mo"


def _of_alphabet(letter: str, variant: str) -> str:
    """The bold x for x and "bold"; the letter itself where Unicode has no such letter."""
    alphabet, of_digits = _ALPHABETS[variant]
    name = unicodedata.name(letter, "")
    if letter in _SYMBOLS:
        wanted = [f"MATHEMATICAL {alphabet}{_SYMBOLS[letter]}"]
    elif letter.isdigit() and letter.isascii():
        wanted = [f"MATHEMATICAL {of_digits}DIGIT {_DIGITS[int(letter)]}"]
    elif found := re.fullmatch(r"(?:LATIN|GREEK) (CAPITAL|SMALL) (?:LETTER )?(.+)", name):
        kind = f"{found[1]} {found[2]}"
        wanted = [
            f"MATHEMATICAL {alphabet}{kind}",
            f"{alphabet}{kind}",
        ]  # the R of real numbers is older
        if alphabet == "FRAKTUR ":
            wanted.append(f"BLACK-LETTER {kind}")
    else:
        return letter
    for one in wanted:
        try:
            return unicodedata.lookup(one)
        except KeyError:
            continue
    return letter


def _operator(element: Element) -> None:
    if len(element):  # \mathopen{\Vert}: a sign in a row in a sign
        element.text = "".join(element.itertext())
        for child in list(element):
            element.remove(child)
    if element.text in _LETTERS:  # dots and infinity: no more space than a letter has
        element.tag = "mi"
    if element.text in _BRACES:
        element.set("class", "brace")
    if element.get("minsize"):
        element.set("stretchy", "true")
    if element.text in _SUMS:
        element.set("movablelimits", "true")
    if element.text and _FUNCTION.fullmatch(element.text):
        if element.get("movablelimits"):
            element.text = element.text.replace("\u2009", " ")
        element.set("class", "f")
        element.set("lspace", "0")
        element.set("rspace", "0")


def _accent(element: Element) -> None:
    base, mark = element[0], element[1]
    sign = mark.text or ""
    if mark.tag != "mo" or sign not in _ACCENTS:
        return
    element.set("accent", "true")
    wide = len("".join(base.itertext())) > 1
    mark.set("stretchy", "true" if wide else "false")
    mark.text = _ACCENTS[sign]
    if not wide and mark.text == _OVERLINE:
        mark.text = _MACRON


def _box(element: Element) -> None:
    if element.get("notation") != "box":
        raise ValueError(f"{element.get('notation')} is not drawn by browsers")
    element.tag = "mrow"
    element.attrib.clear()
    element.set("class", "boxed")


def _table(element: Element) -> None:
    element.attrib.pop("rowspacing", None)
    aligned = element.attrib.pop("columnspacing", None) is not None
    element.set("class", "aligned" if aligned else "matrix")
    for row in element:
        for cell in row:
            side = cell.attrib.pop("columnalign", None)
            if side:
                cell.set("class", side[0])
            if (
                side == "right"
            ):  # Chromium knows no text-align here: CSS turns the cell, not the row
                inner = Element("mrow")
                inner.extend(list(cell))
                cell[:] = [inner]
    if aligned:
        element.set("displaystyle", "true")


def _style(element: Element) -> None:
    colour = element.attrib.pop("mathcolor", None)
    if colour:
        raise ValueError("\\color: formulas have the colour of the text")


def _space(element: Element) -> None:
    if element.get("width") == "negativethinmathspace":
        element.set("width", "-0.167em")
    if element.get("linebreak"):
        raise ValueError("\\\\ outside of an aligned environment")


def _padded(element: Element) -> None:
    """MathML Core has no "+0.8em": drop what is not a length."""
    for key, value in list(element.attrib.items()):
        if value.startswith(("+", "-")) or key == "voffset":
            del element.attrib[key]


_MENDERS = {
    "mi": _letters,
    "mn": _letters,
    "mo": _operator,
    "mover": _accent,
    "menclose": _box,
    "mtable": _table,
    "mstyle": _style,
    "mspace": _space,
    "mpadded": _padded,
}


def _space_functions(row: Element) -> None:
    """A thin space beside log, Var and so on, but not beside a bracket. And KL is one word."""
    _join_words(row)
    for child in list(row):
        if not _is_function(child):
            continue
        place = list(row).index(child)
        if place + 1 < len(row) and not _hugs(row[place + 1]):
            _insert_space(row, place + 1)
        if place and row[place - 1].tag not in ("mo", "mspace", "mtext"):
            _insert_space(row, place)


def _insert_space(row: Element, place: int) -> None:
    space = Element("mspace", width="0.167em")
    row.insert(place, space)


def _is_function(element: Element) -> bool:
    if element.tag in ("msub", "msup", "msubsup", "munder", "munderover", "mover"):
        return _is_function(element[0])
    if element.tag == "mo":
        return element.get("class") == "f"
    return (
        element.tag == "mi"
        and not element.get("mathvariant")
        and len(element.text or "") > 1
        and bool(_FUNCTION.fullmatch(element.text or ""))
    )


def _hugs(element: Element) -> bool:
    if element.tag == "mspace":
        return True
    if element.tag in ("msub", "msup", "msubsup", "mrow") and len(element):
        return _hugs(element[0])
    return element.tag == "mo" and (element.text or "")[:1] in _OPEN


def _join_words(row: Element) -> None:
    """Upright letters in a row, K L, become one: KL."""
    last: Element | None = None
    for child in list(row):
        upright = child.tag == "mi" and child.get("mathvariant") == "normal"
        if upright and last is not None:
            last.text = (last.text or "") + (child.text or "")
            row.remove(child)
        else:
            last = child if upright else None
    for child in row:  # "normal" is for single letters, which would be slanted
        if child.get("mathvariant") == "normal" and len(child.text or "") > 1:
            del child.attrib["mathvariant"]
            child.set("class", "word")


# ---- lines ---------------------------------------------------------------------------------------


def _pieces(math: Element) -> list[Element]:
    """An inline formula in pieces: lines may end before a relation and after a comma."""
    row = math[0]
    groups: list[list[Element]] = [[]]
    for child in row:
        sign = (child.text or "") if child.tag == "mo" else ""
        if sign in _RELATIONS and sign and groups[-1]:
            child.set("form", "infix")
            groups.append([])
        groups[-1].append(child)
        if sign in (",", ";") and child is not row[-1]:
            child.set("form", "infix")
            groups.append([])
    if _size(groups) <= _PIECE or _fenced(row):
        return [math]
    made = []
    for group in groups:
        piece = Element("math", display="inline")
        inner = SubElement(piece, "mrow")
        inner.extend(group)
        made.append(piece)
    return made


def _size(groups: list[list[Element]]) -> int:
    return sum(len("".join(e.itertext())) for group in groups for e in group)


def _fenced(row: Element) -> bool:
    """Whether a cut would part a bracket that must grow from its partner."""
    return any(e.tag == "mo" and e.get("stretchy") == "true" for e in row)
