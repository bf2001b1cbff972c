"""A state x action heatmap as SVG, written by hand: text on a grid needs no plotting library."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from ..skills_bank.evidence import expected_outcome
from ..skills_bank.models import Prototype
from ..skills_bank.taxonomy import ACTION_INFO, STATE_INFO, SeekerState, SupportAction

_CELL_W, _CELL_H = 54, 34
_LEFT, _TOP, _RIGHT, _BOTTOM = 228, 176, 96, 84
_FULL = 0.5
"""The difference at which a colour is at its deepest."""
_GOOD, _POOR, _MIDDLE = (33, 102, 172), (178, 72, 24), (247, 247, 247)
"""Blue and orange: told apart in the common forms of colour blindness, and in grey by the printed sign."""


def _colour(value: float) -> str:
    share = min(1.0, abs(value) / _FULL)
    end = _GOOD if value >= 0 else _POOR
    return "#" + "".join(f"{round(m + (e - m) * share):02x}" for m, e in zip(_MIDDLE, end, strict=True))


def _points(value: float) -> str:
    points = round(100 * value)
    return f"{points:+d}" if points else "0"


def _text(x: float, y: float, content: str, *, size: int = 12, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{more}>{escape(content)}</text>'


def _cell(x: float, y: float, prototype: Prototype, base: float) -> list[str]:
    effect = expected_outcome(prototype) - base
    ink = "#ffffff" if abs(effect) > 0.62 * _FULL else "#1a1a1a"
    title = (
        f"{STATE_INFO[prototype.state].name}, {ACTION_INFO[prototype.action].name}: {prototype.n} units, "
        f"positive {prototype.positive.rate:.0%}, negative {prototype.negative.rate:.0%}"
    )
    fill = f' fill="{ink}"'
    return [
        f'<g><title>{escape(title)}</title><rect x="{x:g}" y="{y:g}" width="{_CELL_W - 2}" height="{_CELL_H - 2}" '
        f'rx="3" fill="{_colour(effect)}"/>',
        _text(x + _CELL_W / 2 - 1, y + 15, _points(effect), size=12, anchor="middle", more=fill),
        _text(x + _CELL_W / 2 - 1, y + 27, f"n {prototype.n}", size=9, anchor="middle", more=fill) + "</g>",
    ]


def _legend(x: float, y: float) -> list[str]:
    steps = [-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5]
    parts = [_text(x, y, "points over the state's base rate", size=11)]
    for i, value in enumerate(steps):
        left = x + i * 40
        parts.append(f'<rect x="{left:g}" y="{y + 8:g}" width="40" height="12" fill="{_colour(value)}"/>')
        if i % 2 == 0:
            parts.append(_text(left + 20, y + 34, _points(value), size=10, anchor="middle"))
    return parts


def heatmap(cells: Mapping[tuple[SeekerState, SupportAction], Prototype], bases: Mapping[SeekerState, float]) -> str:
    """Return the SVG text.

    Args:
        cells: The prototypes to draw; a cell that is none stays empty.
        bases: Positive minus negative rate over all units of each state.
    """
    states, actions = list(SeekerState), list(SupportAction)
    width = _LEFT + len(actions) * _CELL_W + _RIGHT
    height = _TOP + len(states) * _CELL_H + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">',
        "<title>Effect of each support action in each seeker state</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<g fill="#1a1a1a">',
        _text(16, 30, "What followed each support action,", size=15, more=' font-weight="bold"'),
        _text(16, 50, "by seeker state", size=15, more=' font-weight="bold"'),
        _text(16, 74, "Positive minus negative", size=11),
        _text(16, 89, "share, smoothed, against", size=11),
        _text(16, 104, "the state's base rate (right)", size=11),
    ]
    for j, action in enumerate(actions):
        x, y = _LEFT + j * _CELL_W + _CELL_W / 2, _TOP - 10
        parts.append(_text(x, y, ACTION_INFO[action].name, more=f' transform="rotate(-45 {x:g} {y:g})"'))
    for i, state in enumerate(states):
        y = _TOP + i * _CELL_H
        parts.append(_text(_LEFT - 10, y + 21, STATE_INFO[state].name, anchor="end"))
        parts.append(_text(_LEFT + len(actions) * _CELL_W + 10, y + 21, _points(bases[state])))
        for j, action in enumerate(actions):
            x = _LEFT + j * _CELL_W
            if (state, action) in cells:
                parts += _cell(x, y, cells[state, action], bases[state])
            else:
                parts.append(
                    f'<rect x="{x:g}" y="{y:g}" width="{_CELL_W - 2}" height="{_CELL_H - 2}" rx="3" fill="none" '
                    'stroke="#dddddd"/>'
                )
    foot = _TOP + len(states) * _CELL_H + 28
    parts += _legend(_LEFT, foot)
    parts.append(
        _text(_LEFT + 400, foot + 18, "empty: fewer than five key units. An association, not an effect.", size=11)
    )
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"
