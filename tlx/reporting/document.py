"""A report as data: sections of paragraphs, notes, tables and figures. `formats.py` and `page.py` write it.

All texts are plain; each format escapes them.
"""

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: what a person reads, such as "0.812 ± 0.004".
      values: what the CSV file holds, one value for each name of the column; None is left empty.
    """

    text: str
    values: tuple[str | int | float | None, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      title: what a person reads.
      names: names of the columns of the CSV file that it becomes.
      numeric: whether it is aligned to the right.
    """

    title: str
    names: tuple[str, ...]
    numeric: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows.

    Attributes:
      name: name of its CSV file without suffix, and of its LaTeX label.
      caption: what it shows.
      columns: the columns.
      rows: rows of one cell for each column.
      notes: sentences below the table.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
      caption: what it shows.
      wide: SVG for wide screens and paper.
      narrow: SVG for narrow screens.
      key: `(mark, text)` of what the chart names by a mark; the marks are SVG.
    """

    caption: str
    wide: str
    narrow: str
    key: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph of text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Warnings:
    """What a reader must know before using the numbers.

    Attributes:
      items: sentences; none says that nothing was found.
    """

    items: tuple[str, ...]


Block = Paragraph | Warnings | Table | Figure


@dataclasses.dataclass(frozen=True)
class Section:
    """A section with a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
      title: its title.
      lead: a paragraph below the title.
      sections: the sections.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]

    def tables(self) -> Iterator[Table]:
        """The tables in order."""
        return (block for section in self.sections for block in section.blocks if isinstance(block, Table))


def text(value: object) -> Cell:
    """A cell of text."""
    return Cell(str(value), (str(value),))


def number(value: float | int | None, shown: str) -> Cell:
    """A cell with one number; a dash if there is none (None or NaN)."""
    return Cell("–", (None,)) if value is None or value != value else Cell(shown, (value,))
