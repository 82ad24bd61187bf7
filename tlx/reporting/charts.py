"""The charts of a report: intervals in rows, curves with bands, and points with intervals."""

import dataclasses
import math
from collections.abc import Sequence

from tlx.reporting import svg
from tlx.reporting.document import Figure

ROW = 26  # height of a row in pixels
SERIES = 7  # colors beside that of the text


@dataclasses.dataclass(frozen=True)
class Row:
    """A mean with its interval.

    Attributes:
      name: the name of the row.
      mean: the mean.
      low: lower end of the interval; NaN without one.
      high: upper end of the interval.
      reference: whether it is what the others are compared with.
    """

    name: str
    mean: float
    low: float
    high: float
    reference: bool = False


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line with a band.

    Attributes:
      name: its name in the key.
      x: the places, in order.
      mean: the values.
      low: lower ends of the band; NaN without one.
      high: upper ends.
      reference: whether it is drawn in the color of the text.
    """

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    reference: bool = False


@dataclasses.dataclass(frozen=True)
class Point:
    """A point with an interval in y.

    Attributes:
      name: what it is.
      x: positive.
      row: its mean and interval in y.
      marked: whether it is drawn full and numbered in the key.
    """

    name: str
    x: float
    row: Row
    marked: bool


def intervals(rows: Sequence[Row], x_title: str, caption: str, description: str) -> Figure:
    """A row for each mean with its interval, and a vertical line at the reference."""
    wide, narrow = (_intervals(rows, x_title, description, width) for width in (svg.WIDE, svg.NARROW))
    return Figure(caption, wide, narrow)


def _intervals(rows: Sequence[Row], x_title: str, description: str, width: int) -> str:
    """Names are left of the intervals in a wide chart, and above them in a narrow one."""
    beside = width == svg.WIDE
    most = 40 if beside else int(width / svg.LETTER)
    left = min(most, max(len(row.name) for row in rows)) * svg.LETTER + 12 if beside else 8
    height = ROW if beside else ROW + 18
    ends = [end for row in rows for end in (row.mean, row.low, row.high) if end == end]
    x = svg.scale(ends, left, width - 16)
    bottom = height * len(rows) + 6
    drawn = []
    for tick, shown in x.ticks(int((width - left) / 70)).items():
        drawn.append(svg.line(x(tick), 0, x(tick), bottom, "grid"))
        drawn.append(svg.label(x(tick), bottom + 16, shown, "middle", "soft"))
    drawn += [svg.line(x(row.mean), 0, x(row.mean), bottom, "axis") for row in rows if row.reference]
    for index, row in enumerate(rows):
        y = height * (index + 1) - ROW / 2 + 4
        color = 0 if row.reference else 1
        drawn.append(svg.label(left - 12, y + 4, row.name, "end", most=most) if beside
                     else svg.label(0, y - 14, row.name, most=most))  # fmt: skip
        if row.low == row.low:
            drawn.append(svg.stroke([(x(row.low), y), (x(row.high), y)], color))
        drawn.append(svg.mark(x(row.mean), y, color, f"{row.name}: {svg.short(row.mean)}"))
    drawn.append(svg.label(width - 16, bottom + 34, x_title, "end", "soft"))
    return svg.document(width, bottom + 42, description, *drawn)


def curves(lines: Sequence[Curve], x_title: str, y_title: str, caption: str, description: str) -> Figure:
    """Lines with bands; at most `SERIES` beside the reference."""
    colors, used = [], 0
    for curve in lines:
        used += not curve.reference
        colors.append(0 if curve.reference else used)
    wide, narrow = (_curves(lines, colors, x_title, y_title, description, w) for w in (svg.WIDE, svg.NARROW))
    key = []
    for curve, color in zip(lines, colors, strict=True):
        sample = f'<svg width="28" height="12" aria-hidden="true">{svg.stroke([(0, 6), (28, 6)], color)}</svg>'
        key.append((sample, curve.name))
    return Figure(caption, wide, narrow, tuple(key))


def _curves(
    lines: Sequence[Curve], colors: Sequence[int], x_title: str, y_title: str, description: str, width: int
) -> str:
    height = 360 if width == svg.WIDE else 280
    x = svg.scale([value for curve in lines for value in curve.x], 56, width - 16)
    means = [value for curve in lines for value in curve.mean]
    spread = (max(means) - min(means)) / 2
    inside = [
        min(max(end, min(means) - spread), max(means) + spread)  # a band that is wider is cut
        for curve in lines for end in (*curve.low, *curve.high) if end == end
    ]  # fmt: skip
    y = svg.scale([*means, *inside], height - 48, 26)
    drawn = [svg.axes(x, y, x_title, y_title)]
    for curve, color in zip(lines, colors, strict=True):
        kept = [i for i, low in enumerate(curve.low) if low == low]
        if len(kept) > 1:
            upper, lower = ([(x(curve.x[i]), y(ends[i])) for i in kept] for ends in (curve.high, curve.low))
            drawn.append(svg.band(upper, lower, color))
    for curve, color in zip(lines, colors, strict=True):
        points = [(x(a), y(b)) for a, b in zip(curve.x, curve.mean, strict=True)]
        drawn.append(svg.stroke(points, color) if len(points) > 1 else svg.mark(*points[0], color))
    return svg.document(width, height, description, *drawn)


def scatter(points: Sequence[Point], x_title: str, y_title: str, caption: str, description: str) -> Figure:
    """Points with intervals in y; those that are marked have numbers, which the key explains."""
    wide, narrow = (_scatter(points, x_title, y_title, description, width) for width in (svg.WIDE, svg.NARROW))
    marked = [point for point in points if point.marked or point.row.reference]
    key = []
    for number, point in enumerate(marked, 1):
        sample = svg.mark(6, 6, 0 if point.row.reference else 1)
        key.append((f'<svg width="12" height="12" aria-hidden="true">{sample}</svg> {number}', point.name))
    return Figure(caption, wide, narrow, tuple(key))


def _scatter(points: Sequence[Point], x_title: str, y_title: str, description: str, width: int) -> str:
    height = 360 if width == svg.WIDE else 280
    places = [point.x for point in points]
    x = svg.scale(places, 56, width - 24, log=max(places) > 10 * min(places) > 0)
    means = [point.row.mean for point in points]
    spread = (max(means) - min(means)) / 2 or math.inf
    ends = [
        min(max(end, min(means) - spread), max(means) + spread)
        for point in points for end in (point.row.low, point.row.high) if end == end
    ]  # fmt: skip
    y = svg.scale([*means, *ends], height - 48, 26)
    drawn, number = [svg.axes(x, y, x_title, y_title)], 0
    for point in sorted(points, key=lambda point: point.marked or point.row.reference):
        at, color = (x(point.x), y(point.row.mean)), 0 if point.row.reference else 1
        if point.row.low == point.row.low:
            drawn.append(svg.stroke([(at[0], y(point.row.low)), (at[0], y(point.row.high))], color, 1))
        numbered = point.marked or point.row.reference
        drawn.append(svg.mark(*at, color, point.name, hollow=not numbered))
        if numbered:
            number += 1
            drawn.append(svg.label(at[0] + 7, at[1] - 6, str(number)))
    return svg.document(width, height, description, *drawn)
