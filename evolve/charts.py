"""Charts of an evolution as SVG, with places in percent of the width: text keeps its size on a phone.

Colours come from the page's style sheet, which knows whether it is dark: `new` and `old` are the blue and the orange of
`pipeline/heatmap.py`, told apart in the common forms of colour blindness, and by their marks.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..simulator.resample import Estimate
from .markup import Html, el

_LEFT, _RIGHT = 8.0, 3.0
"""Margins of the score curve in percent."""
_TOP, _BOTTOM, _HEIGHT = 18, 26, 300
_ROW = 26
"""Height of a row of the forest."""
_LEVELS = ((100, "S"), (70, "A"), (40, "B"), (10, "C"), (0, "F"))
"""Where SAGE's states begin."""


class Step(NamedTuple):
    """A place of the score curve: the same talks with the old and with the new text."""

    label: str
    """A word, under the axis."""
    name: str
    old: float | None
    """None where there is but one bank."""
    new: float
    low: float
    high: float


class Axis(NamedTuple):
    """A scale of differences, shared by the rows of a forest."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Axis":
        """Return the scale that holds the values and 0, its ends at round numbers."""
        least, most = min([0.0, *values]), max([0.0, *values])
        step = _round_step((most - least or 1.0) / 6)
        low, high = math.floor(least / step) * step, math.ceil(most / step) * step
        return cls(low, high if high > low else low + step, step)

    def at(self, value: float) -> str:
        """Return a place on it; its ends keep clear of the border, so that their marks are whole."""
        return f"{2 + 96 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self) -> list[float]:
        """Return the round numbers on it."""
        return [self.low + self.step * i for i in range(round((self.high - self.low) / self.step) + 1)]


def _round_step(rough: float) -> float:
    """Return the next larger of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * lead for lead in (1, 2, 5, 10) if power * lead >= rough * 0.999)


class _Height(NamedTuple):
    """The part of the emotion's scale that a curve shows."""

    low: int
    high: int

    @classmethod
    def over(cls, steps: Sequence[Step]) -> "_Height":
        """Return the fives that hold all steps."""
        values = [v for s in steps for v in (s.new, s.low, s.high, s.new if s.old is None else s.old)]
        low, high = math.floor(min(values) / 5) * 5, math.ceil(max(values) / 5) * 5
        return cls(low, max(high, low + 10))

    def at(self, points: float) -> float:
        """Return a place on it, in pixels from above."""
        share = (self.high - points) / (self.high - self.low)
        return round(_TOP + share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def levels(self) -> dict[float, str]:
        """Return where lines are drawn, the beginnings of states among them, and what they are called."""
        step = _round_step((self.high - self.low) / 6)
        named = {level: f"{state} {level:g}" for level, state in _LEVELS if self.low <= level <= self.high}
        tens = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        # Beside the beginning of a state there is no room for another number.
        free = [one for one in tens if all(abs(one - level) >= step / 2 for level in named)]
        return {level: f"{level:g}" for level in free} | named


def curve(steps: Sequence[Step], told: str) -> Html:
    """Return the score curve.

    Args:
        steps: First to last.
        told: What it shows, for who cannot see it.
    """
    height, parts = _Height.over(steps), []
    for level, name in height.levels().items():
        y = height.at(level)
        parts.append(_line(f"{_LEFT}%", y, f"{100 - _RIGHT}%", y, "grid"))
        parts.append(_text(f"{_LEFT - 1}%", y + 4, name, "end"))
    for place, step in enumerate(steps):
        parts.append(_text(_x(place, len(steps)), _HEIGHT - 6, step.label, "middle"))
    for kind in ("old", "new"):
        values = [step.old if kind == "old" and step.old is not None else step.new for step in steps]
        for place in range(len(steps) - 1):
            ends = (
                _x(place, len(steps)),
                height.at(values[place]),
                _x(place + 1, len(steps)),
                height.at(values[place + 1]),
            )
            parts.append(_line(*ends, f"link {kind}"))
    parts += [_mark(step, _x(place, len(steps)), height) for place, step in enumerate(steps)]
    return _svg("Score curve", told, _HEIGHT, parts, "curve")


def bar(name: str, difference: Estimate, floor: Estimate | None, axis: Axis, ruling: str) -> Html:
    """Return one row of a forest: a difference with its interval over the band of the noise floor."""
    told = f"{name}: {difference.value:+.1f}, interval {difference.low:+.1f} to {difference.high:+.1f}"
    parts = []
    if floor is not None:
        told += f"; noise floor {floor.low:+.1f} to {floor.high:+.1f}"
        parts.append(_band(floor, axis))
    middle = _ROW / 2
    parts += [
        _line(axis.at(0), 0, axis.at(0), _ROW, "zero"),
        _line(axis.at(difference.low), middle, axis.at(difference.high), middle, f"whisker {ruling}"),
        el("circle", cx=axis.at(difference.value), cy=middle, r=5, class_=f"dot {ruling}"),
    ]
    return _svg("Difference of the candidate", told, _ROW, parts, "bar")


def scale(axis: Axis) -> Html:
    """Return the axis under a forest."""
    parts = []
    for tick in axis.ticks():
        parts.append(_line(axis.at(tick), 0, axis.at(tick), 5, "zero"))
        parts.append(_text(axis.at(tick), 18, f"{tick:+g}" if tick else "0", "middle"))
    return _svg("Scale", "Points of emotion, new text minus old.", 22, parts, "bar")


def _band(floor: Estimate, axis: Axis) -> Html:
    left, right = (float(axis.at(end).rstrip("%")) for end in (floor.low, floor.high))
    return el("rect", x=f"{left:.2f}%", y=0, width=f"{right - left:.2f}%", height=_ROW, class_="floor")


def _mark(step: Step, x: str, height: _Height) -> Html:
    whisker = _line(x, height.at(step.low), x, height.at(step.high), "whisker new")
    told = f"{step.name}: {step.new:.1f} ({step.low:.1f} to {step.high:.1f})"
    marks = [whisker]
    if step.old is not None:
        told += f", with the parent's text {step.old:.1f}"
        marks.append(el("circle", cx=x, cy=height.at(step.old), r=4.5, class_="dot old"))
    return el("g", el("title", told), marks, el("circle", cx=x, cy=height.at(step.new), r=5, class_="dot new"))


def _x(place: int, steps: int) -> str:
    width = 100 - _LEFT - _RIGHT
    return f"{_LEFT + width * (place + 0.5) / max(1, steps):.2f}%"


def _line(x1: str, y1: float, x2: str, y2: float, class_: str) -> Html:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _text(x: str, y: float, content: str, anchor: str) -> Html:
    return el("text", content, x=x, y=y, text_anchor=anchor)


def _svg(title: str, told: str, height: float, parts: Sequence[Html], class_: str) -> Html:
    return el(
        "svg", el("title", title), el("desc", told), parts,
        role="img", aria_label=f"{title}. {told}", width="100%", height=height, class_=class_,
    )  # fmt: skip
