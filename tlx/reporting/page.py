"""A report as one HTML page that needs no other file, no script and no network."""

import html
import re
from importlib import resources

from tlx.reporting.document import Block, Document, Figure, Paragraph, Section, Table, Warnings


def to_html(document: Document) -> str:
    """Returns the page. All texts are escaped; charts are SVG inside the page."""
    css = resources.files("tlx.reporting").joinpath("page.css").read_text(encoding="utf-8")
    contents = "".join(f'<li><a href="#{_id(s.title)}">{escape(s.title)}</a></li>' for s in document.sections)
    body = "".join(_section(section) for section in document.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(document.title)}</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>{escape(document.title)}</h1>
<p>{escape(document.lead)}</p>
</header>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
<main>
{body}</main>
</body>
</html>
"""


def escape(text: object) -> str:
    """Returns text for HTML and SVG: markup is escaped, unprintable characters become spaces."""
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " for c in shown)
    return html.escape(shown, quote=True)


def _id(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _section(section: Section) -> str:
    name = _id(section.title)
    blocks = "".join(_block(block) for block in section.blocks)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(section.title)}</h2>\n{blocks}</section>\n'


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>\n"
    if isinstance(block, Warnings):
        items = "".join(f"<li>{escape(item)}</li>" for item in block.items)
        return f'<ul class="warnings">{items}</ul>\n' if items else "<p>None found.</p>\n"
    return _table(block) if isinstance(block, Table) else _figure(block)


def _table(table: Table) -> str:
    """A table in a box that scrolls sideways, also by keyboard."""
    kinds = [' class="number"' if column.numeric else "" for column in table.columns]
    header = "".join(
        f'<th scope="col"{kind}>{escape(column.title)}</th>' for column, kind in zip(table.columns, kinds, strict=True)
    )
    rows = []
    for first, *cells in table.rows:
        others = "".join(f"<td{kind}>{escape(cell.text)}</td>" for cell, kind in zip(cells, kinds[1:], strict=True))
        rows.append(f'<tr><th scope="row">{escape(first.text)}</th>{others}</tr>\n')
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in table.notes)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{escape(table.caption)}">\n'
        f"<table>\n<caption><span>{escape(table.caption)}</span></caption>\n<thead><tr>{header}</tr></thead>\n"
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>\n{notes}"
    )


def _figure(figure: Figure) -> str:
    key = "".join(f"<li>{mark} {escape(text)}</li>" for mark, text in figure.key)
    return (
        f'<figure>\n<div class="wide">{figure.wide}</div>\n<div class="narrow">{figure.narrow}</div>\n'
        f"{f'<ul class=key>{key}</ul>' if key else ''}\n<figcaption>{escape(figure.caption)}</figcaption>\n</figure>\n"
    )
