"""Small charts as SVG for `page.py`, with the page's colors, so that they are right on light and on dark ground.

An element of class `c0` … `c7` draws with `currentColor`: c0 is the color of the text, the others can be told apart by
people who see red and green as one (after Okabe & Ito 2008), and differ in their dashes and marks too.
"""

import dataclasses
import math
from collections.abc import Sequence

from tlx.reporting.page import escape

WIDE, NARROW = 760, 352  # widths in pixels
LETTER = 7.5  # the width of a letter of the charts' font, in pixels, on average
DASHES = ("", "", "7 3", "2 3", "9 3 2 3", "", "7 3", "2 3")  # of the colors c0 … c7


@dataclasses.dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis.

    Attributes:
      low: the smallest value.
      high: the largest value.
      start: the pixel of `low`.
      stop: the pixel of `high`.
      log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are drawn at the ends."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self, most: int = 6) -> dict[float, str]:
        """Round values on the axis, with the text of each; on a linear axis all texts have as many decimals."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        locator = (
            LogLocator(subs=(1, 2, 5), numticks=most) if self.log else MaxNLocator(max(most, 2), steps=[1, 2, 5, 10])
        )
        found = [float(t) for t in locator.tick_values(self.low, self.high) if self.low <= t <= self.high]
        if self.log:
            return {tick: short(tick) for tick in found}
        decimals = max((len(f"{tick:.4g}".partition(".")[2]) for tick in found), default=0)
        return {tick: f"{tick:,.{decimals}f}".replace("-", "−") for tick in found}


def scale(values: Sequence[float], start: float, stop: float, log: bool = False) -> Scale:
    """An axis for values, with some room at both ends."""
    low, high = min(values), max(values)
    if log:
        return Scale(low / 1.15, high * 1.15, start, stop, True)
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    return Scale(low - room, high + room, start, stop)


def document(width: float, height: float, description: str, *elements: str) -> str:
    """An SVG image; the description is its alternative text."""
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {size} role="img" aria-label="{escape(description)}">{"".join(elements)}</svg>'


def label(x: float, y: float, words: str, anchor: str = "start", kind: str = "", most: int = 0) -> str:
    """A text; more than `most` letters are cut, and shown when the pointer rests on it."""
    cut = words if not most or len(words) <= most else words[: most - 1] + "…"
    title = "" if cut == words else f"<title>{escape(words)}</title>"
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{title}{escape(cut)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A thin line of the class `grid` or `axis`."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def stroke(points: Sequence[tuple[float, float]], color: int, width: float = 2) -> str:
    """A line through points in the color and dashes of a series."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{DASHES[color]}"' if DASHES[color] else ""
    return (
        f'<polyline points="{joined}" class="c{color}" fill="none" stroke="currentColor" '
        f'stroke-width="{width:g}" stroke-linejoin="round"{dashes}/>'
    )


def band(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], color: int) -> str:
    """The area between two lines, transparent."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    return f'<polygon points="{joined}" class="c{color}" fill="currentColor" fill-opacity="0.14"/>'


def mark(x: float, y: float, color: int, title: str = "", hollow: bool = False) -> str:
    """A mark: a square for c0, otherwise a circle; the title is shown when the pointer rests on it."""
    told = f"<title>{escape(title)}</title>" if title else ""
    fill = 'fill="none" stroke="currentColor" stroke-width="1.5"' if hollow else 'fill="currentColor"'
    if color == 0:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="c0" {fill}>{told}</rect>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="c{color}" {fill}>{told}</circle>'


def axes(x: Scale, y: Scale, x_title: str, y_title: str) -> str:
    """Two axes with ticks and horizontal grid lines; `y.start` is the lower end."""
    left, right, bottom = x.start, x.stop, y.start
    drawn = [label(left, y.stop - 12, y_title, kind="soft"), label(right, bottom + 36, x_title, "end", "soft")]
    for tick, shown in y.ticks().items():
        drawn.append(line(left, y(tick), right, y(tick), "grid"))
        drawn.append(label(left - 6, y(tick) + 4, shown, "end", "soft"))
    for tick, shown in x.ticks(int((right - left) / 70)).items():
        drawn.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        drawn.append(label(x(tick), bottom + 18, shown, "middle", "soft"))
    return "".join([*drawn, line(left, bottom, right, bottom, "axis")])


def short(value: float) -> str:
    """A number in as few letters as an axis needs."""
    shown = f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return shown.replace("-", "−")
