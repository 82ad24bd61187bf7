"""Tables in Markdown and on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from tlx.errors import TlxError


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a GitHub Markdown table; the first column is left-aligned, the others right-aligned; `|` is escaped."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table to the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:  # files and pipes have no width
        console.width = 160
    console.print(escape(title), soft_wrap=True)  # rich would wrap a table's title to the width of the table
    console.print(table)


def insert(file: Path, name: str, text: str) -> None:
    """Replaces the text between `<!-- name -->` and `<!-- end of name -->` in a page.

    Raises:
      TlxError: if the page does not contain the two comments.
    """
    page = file.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, end_found, after = rest.partition(end)
    if not end_found:
        raise TlxError(f"{file} has no place for the table {name!r}: it lacks {begin.strip()} and {end}.")
    file.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
