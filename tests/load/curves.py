"""Plots as inline SVG: lines over logarithmic axes, and stacked bars."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 30, 44
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)

Points = Sequence[tuple[float, float]]


def lines(
    title: str,
    series: Mapping[str, Points],
    *,
    x_name: str,
    y_name: str,
    y_range: tuple[float, float],
    mark: float | None = None,
) -> str:
    """Lines over two logarithmic axes; `mark` is where a dashed line stands. Charts of one range compare."""
    xs = [x for points in series.values() for x, _ in points]
    if not xs:
        return ""
    across, up = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT), _Scale(*y_range, HEIGHT - BOTTOM, TOP)
    parts = [_frame(title, x_name, y_name)]
    for value in _ticks(min(xs), max(xs)):
        parts.append(_text(across(value), HEIGHT - BOTTOM + 16, f"{value:g}"))
    for value in _ticks(*y_range):
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 5, y + 4, f"{value:g}", "end"))
    if mark is not None:
        x = across(mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x + 4, TOP + 12, "knee", "start"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(min(max(y, y_range[0]), y_range[1])):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_key(name, colour, LEFT + 8 + number * 74, TOP - 6))
    return _svg(parts, HEIGHT)


def bars(
    title: str, columns: Sequence[tuple[str, Mapping[str, float]]], names: Sequence[str], most: float
) -> str:
    """Stacked bars up to `most`, one for each column, in the order of the names."""
    parts = [_frame(title, "offered per second", "cores")]
    room = (WIDTH - LEFT - RIGHT) / max(len(columns), 1)
    per_unit = (HEIGHT - TOP - BOTTOM) / most
    for step in range(int(most) + 1):
        y = HEIGHT - BOTTOM - step * per_unit
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 5, y + 4, str(step), "end"))
    for column, (label, values) in enumerate(columns):
        x, y = LEFT + column * room + room * 0.12, float(HEIGHT - BOTTOM)
        for number, name in enumerate(names):
            used = values.get(name, 0.0)
            tall = used * per_unit
            y -= tall
            colour = COLOURS[number % len(COLOURS)]
            place = f'x="{x:.1f}" y="{y:.1f}" width="{room * 0.76:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect {place} fill="{colour}"><title>{escape(name)} {used:.2f}</title></rect>')
        parts.append(_text(x + room * 0.38, HEIGHT - BOTTOM + 16, label))
    rows = math.ceil(len(names) / 4)
    for number, name in enumerate(names):
        x, y = LEFT + number % 4 * 104, HEIGHT + 8 + number // 4 * 16
        parts.append(_key(name, COLOURS[number % len(COLOURS)], x, y))
    return _svg(parts, HEIGHT + rows * 16 + 8)


def _svg(parts: Sequence[str], height: int) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg {size} role="img">{"".join(parts)}</svg>'


def _frame(title: str, x_name: str, y_name: str) -> str:
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    turned = f'transform="translate(12 {HEIGHT // 2}) rotate(-90)" text-anchor="middle"'
    return (
        f'<text class="title" x="{LEFT}" y="12">{escape(title)}</text>'
        f"{_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name)}<text {turned}>{escape(y_name)}</text>"
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{wide}" height="{tall}"/>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _key(name: str, colour: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x}" y="{y - 8}" width="9" height="9" fill="{colour}"/>'
        f'<text x="{x + 12}" y="{y}">{escape(name)}</text>'
    )


class _Scale:
    """From a value to a place, by its logarithm."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low = math.log10(low)
        self._span = max(math.log10(high) - self._low, 1e-9)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) / self._span * (self._end - self._start)


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # Few enough that their numbers do not touch.
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    values = (step * 10.0**decade for decade in decades for step in steps)
    return [value for value in values if low * 0.999 <= value <= high * 1.001]
