"""How the emotion went, as an SVG: the spread of all talks by turn, and the mean of each group. No library needed."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 52, 150, 26, 44
COLOURS = ("#1b6ca8", "#c2571a", "#2e8b57", "#8a4fa0", "#a08020", "#555555")
STATES = ((100, "S"), (70, "A"), (40, "B"), (10, "C"))
"""Where SAGE's states begin."""
BANDS = ((0.10, 0.90, 0.14), (0.25, 0.75, 0.22))
"""Quantiles below and above, and how dense the band between them is."""

Trajectory = Sequence[int]


def draw(talks: Sequence[Trajectory], groups: Mapping[str, Sequence[Trajectory]]) -> str:
    """Return the plot.

    Args:
        talks: The emotion at the start and after each scored turn, one row a talk. A talk that has ended keeps its
            last value, so that every turn speaks of all talks.
        groups: Rows by the name under which their mean is drawn.
    """
    turns = max((len(talk) for talk in talks), default=1)
    columns = _columns(talks, turns)
    parts = [_frame(turns)]
    for low, high, density in BANDS:
        edge = [(x, _quantile(column, high)) for x, column in enumerate(columns)]
        edge += [(x, _quantile(column, low)) for x, column in reversed(list(enumerate(columns)))]
        points = " ".join(_at(x, y, turns) for x, y in edge)
        parts.append(f'<polygon points="{points}" fill="{COLOURS[0]}" fill-opacity="{density}"/>')
    parts.append(_line(_means(columns), turns, "currentColor", 2.6, "all", 0))
    for place, (name, rows) in enumerate(groups.items(), start=1):
        colour = COLOURS[(place - 1) % len(COLOURS)]
        parts.append(_line(_means(_columns(rows, turns)), turns, colour, 1.6, name, place))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="currentColor" role="img">\n<title>Emotion by turn, {len(talks)} talks</title>\n'
        "<style>svg{color:#222;background:#fff}@media(prefers-color-scheme:dark){svg{color:#ddd;background:#1b1b1b}}"
        "</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _columns(talks: Sequence[Trajectory], turns: int) -> list[list[int]]:
    return [sorted(talk[min(turn, len(talk) - 1)] for talk in talks) for turn in range(turns)]


def _means(columns: Sequence[Sequence[int]]) -> list[float]:
    return [sum(column) / len(column) for column in columns if column]


def _quantile(column: Sequence[int], share: float) -> float:
    if not column:
        return 0.0
    place = share * (len(column) - 1)
    low = int(place)
    high = min(low + 1, len(column) - 1)
    return column[low] + (place - low) * (column[high] - column[low])


def _x(turn: float, turns: int) -> float:
    return LEFT + turn * (WIDTH - LEFT - RIGHT) / max(1, turns - 1)


def _y(points: float) -> float:
    return TOP + (100 - points) * (HEIGHT - TOP - BOTTOM) / 100


def _at(turn: float, points: float, turns: int) -> str:
    return f"{_x(turn, turns):.1f},{_y(points):.1f}"


def _line(values: Sequence[float], turns: int, colour: str, width: float, name: str, place: int) -> str:
    points = " ".join(_at(x, y, turns) for x, y in enumerate(values))
    x, y = WIDTH - RIGHT + 18, TOP + 10 + 20 * place
    last = f" {values[-1]:.0f}" if values else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>\n'
        f'<line x1="{x}" y1="{y}" x2="{x + 18}" y2="{y}" stroke="{colour}" stroke-width="{width}"/>'
        f'<text x="{x + 24}" y="{y + 4}">{escape(name)}{last}</text>'
    )


def _frame(turns: int) -> str:
    parts = []
    for points, state in STATES:
        y = _y(points)
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity=".25" stroke-dasharray="3 4"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{state} {points}</text>'
        )
    for turn in range(turns):
        parts.append(f'<text x="{_x(turn, turns):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{turn}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">scored turns</text>')
    parts.append(f'<text x="{LEFT}" y="14">emotion: mean, and where half and four fifths of the talks lie</text>')
    return "\n".join(parts)
