"""A table as Markdown and on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from tlx.errors import TlxError


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table, its first column to the left, the others to the right. A `|` in a cell is no border."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = 160
    console.print(escape(title), soft_wrap=True)  # a title of the table's own would be folded to its width
    console.print(table)


def insert(file: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- end of name -->` in a page."""
    page = file.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise TlxError(f"{file} has no place for the table {name!r}: it lacks {begin.strip()} and {end}.")
    file.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
