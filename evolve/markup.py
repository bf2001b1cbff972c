"""HTML and SVG in small: elements whose text is always escaped.

`el` takes text and elements. Text is escaped and elements are not, and nothing but this module makes an element out of
text, so that a skill's text cannot become part of the page's own markup.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters and those that turn the direction of a line or have no width: a reader has to see that they are
there ("Trojan Source", Boucher and Anderson 2021, arXiv 2111.00169)."""
_VOID = frozenset({"br", "meta"})


class Html(str):
    """Markup; a plain `str` is text."""

    __slots__ = ()


Part: TypeAlias = "str | int | Iterable[Part] | None"


def visible(plain: str) -> str:
    """Return a text with what cannot be seen, or would move a terminal's cursor, named by its code point."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", plain)


def text(plain: str) -> Html:
    """Return text as markup, with what cannot be seen named."""
    return Html(escape(visible(plain)))


def prose(plain: str) -> list[str | Html]:
    """Return a sentence of ours, what stands between backticks as code."""
    parts = plain.split("`")
    if len(parts) % 2 == 0:
        return [plain]
    return [el("code", part) if place % 2 else part for place, part in enumerate(parts)]


def el(name: str, *parts: Part, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        name: Its name.
        parts: What is in it: text, elements, or several of them; None is nothing.
        attributes: `class_` is class, `stroke_width` is stroke-width; None and False leave one out, True sets it bare.
    """
    inside = Html("".join(_flat(parts)))
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(opened if name in _VOID else f"{opened}{inside}</{name}>")


def join(between: str | Html, parts: Iterable[str | Html]) -> Html:
    """Return the parts with something between them."""
    return Html(_safe(between).join(_safe(part) for part in parts))


def table(
    caption: str,
    head: Sequence[str | Html],
    rows: Iterable[Sequence[str | Html | int]],
    *,
    numbers: Sequence[int] = (),
    cards: bool = False,
    class_: str | None = None,
) -> Html:
    """Return a table that scrolls sideways by itself where it is wider than the page.

    Args:
        caption: What it shows.
        head: A heading a column.
        rows: The first cell of a row is its heading.
        numbers: Columns of numbers, from 0.
        cards: On a narrow page show every row as a card of its own. The roles are said, since a table that is not laid
            out as one loses them in some browsers.
        class_: More classes of the table.
    """

    def role(name: str) -> str | None:
        return name if cards else None

    def cell(place: int, part: str | Html | int) -> Html:
        numeric = "n" if place in numbers else None
        if place == 0:
            return el("th", part, scope="row", role=role("rowheader"), class_=numeric)
        return el("td", part, role=role("cell"), class_=numeric, data_label=head[place] if cards else None)

    heading = [
        el("th", name, scope="col", role=role("columnheader"), class_="n" if place in numbers else None)
        for place, name in enumerate(head)
    ]
    lines = [el("tr", [cell(place, part) for place, part in enumerate(row)], role=role("row")) for row in rows]
    classes = " ".join(filter(None, ("cards" if cards else "", class_ or "")))
    whole = el(
        "table",
        el("caption", el("span", caption)),
        el("thead", el("tr", heading, role=role("row")), role=role("rowgroup")),
        el("tbody", lines, role=role("rowgroup")),
        class_=classes or None,
        role=role("table"),
    )
    return scroll(caption, whole)


def scroll(label: str, *parts: Part) -> Html:
    """Return a part that may be wider than the page; the keyboard can scroll it, too."""
    return el("div", *parts, class_="scroll", role="group", aria_label=label, tabindex="0")


def facts(pairs: Iterable[tuple[str, Part]]) -> Html:
    """Return a list of names and what they are."""
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in pairs], class_="facts")


def fold(summary: Part, *parts: Part, open_: bool = False) -> Html:
    """Return a part that can be folded, without a script."""
    return el("details", el("summary", summary), *parts, open=open_)


def bullets(items: Iterable[Part], **attributes: str | None) -> Html:
    """Return a list."""
    return el("ul", [el("li", item) for item in items], **attributes)


def command(line: str) -> Html:
    """Return a command to copy."""
    return el("pre", el("code", line), class_="command", tabindex="0")


def _safe(part: str | Html) -> Html:
    return part if isinstance(part, Html) else text(part)


def _flat(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        if part is None:
            continue
        if isinstance(part, str):
            yield _safe(part)
        elif isinstance(part, int):
            yield str(part)
        else:
            yield from _flat(part)


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f' {name}="{text(shown)}"'
