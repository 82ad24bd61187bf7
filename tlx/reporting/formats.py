"""A report as Markdown, LaTeX and CSV. What comes from runs, such as names and messages, is escaped."""

import csv
import io
import re

from tlx.reporting.card import plain
from tlx.reporting.document import Column, Document, Figure, Paragraph, Table, Warnings
from tlx.reporting.tables import markdown as markdown_table

LONGEST = 2000  # characters of a cell in Markdown
LONGEST_LINE = 40  # characters of a cell in LaTeX that is not broken into lines
# A cell that begins so is a formula for spreadsheets, which may run commands (OWASP, "CSV injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the beginning of a row they would be arguments of the line break before it
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "−": "$-$",
    "×": r"$\times$", "–": "--", "…": r"\ldots{}",
    "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "√": r"$\surd$", "·": r"$\cdot$",
})  # fmt: skip


def to_markdown(document: Document) -> str:
    """Returns the texts and tables in GitHub's Markdown."""
    lines = [f"# {plain(document.title)}", "", plain(document.lead, LONGEST), ""]
    for section in document.sections:
        if all(isinstance(block, Figure) for block in section.blocks):
            continue  # pictures are in the page alone
        lines += [f"## {plain(section.title)}", ""]
        for block in section.blocks:
            if isinstance(block, Paragraph):
                lines += [plain(block.text, LONGEST), ""]
            elif isinstance(block, Warnings):
                lines += [*(f"- **Warning:** {plain(item, LONGEST)}" for item in block.items or ["none"]), ""]
            elif isinstance(block, Table):
                header = [plain(column.title) for column in block.columns]
                rows = [[plain(cell.text, LONGEST) for cell in row] for row in block.rows]
                lines += [f"**{plain(block.caption, LONGEST)}**", "", markdown_table(header, rows)]
                lines += [f"{plain(note, LONGEST)}\n" for note in block.notes]
    return "\n".join(lines)


def to_latex(document: Document) -> str:
    """Returns the tables in LaTeX, for `\\input`; its first line says which packages they need."""
    needed = (
        r"% Needs \usepackage{booktabs,longtable} and \usepackage[T1]{fontenc}; other than Latin letters need LuaLaTeX."
    )
    return "\n".join([needed, *(_latex_table(table) for table in document.tables())])


def to_csv(table: Table) -> str:
    """Returns a table with full precision, one row for each of its rows (RFC 4180)."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([name for column in table.columns for name in column.names])
    for row in table.rows:
        writer.writerow([_safe(value) for cell in row for value in cell.values])
    return written.getvalue()


def latex(text: str) -> str:
    """Returns plain text for LaTeX: its special characters are escaped, unprintable characters removed."""
    text = " ".join(text.split())
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text.translate(LATEX)


def _latex_table(table: Table) -> str:
    align = "".join(_alignment(column, [row[i].text for row in table.rows]) for i, column in enumerate(table.columns))
    header = " & ".join(latex(column.title) for column in table.columns)
    rows = [" & ".join(latex(cell.text) for cell in row) + r" \\" for row in table.rows]
    caption = " ".join([table.caption, *table.notes])
    label = re.sub(r"[^a-z0-9-]", "-", table.name)
    head = [r"\toprule", rf"{header} \\", r"\midrule"]
    return "\n".join([
        rf"\begin{{longtable}}{{{align}}}", rf"\caption{{{latex(caption)}}}\label{{tab:{label}}} \\",
        *head, r"\endfirsthead", *head, r"\endhead", *rows, r"\bottomrule", r"\end{longtable}", "",
    ])  # fmt: skip


def _alignment(column: Column, texts: list[str]) -> str:
    """Numbers are aligned to the right, and long texts are broken into lines."""
    long = max(map(len, texts), default=0) > LONGEST_LINE
    return "r" if column.numeric else r"p{0.45\linewidth}" if long else "l"


def _safe(value: str | int | float | None) -> str | int | float | None:
    if isinstance(value, float):
        return value if value == value else None
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
