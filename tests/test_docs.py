"""The Python shown in README and docs runs as it stands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tlx.augment.operations import OPERATIONS
from tlx.data.readers import READERS
from tlx.evaluation.metrics import METRICS
from tlx.losses.by_name import LOSSES
from tlx.models.model import FAMILIES
from tlx.recipes.methods import METHODS

ROOT = Path(__file__).parent.parent
TABLES: tuple[dict[str, Any], ...] = (LOSSES, METHODS, READERS, OPERATIONS, FAMILIES, *METRICS.values())
LONG = ("extending.md", "howto_tasks.md", "howto_adaptation.md", "howto_python.md")
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{index}", marks=[pytest.mark.long] if page.name in LONG else [])
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for index, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.fixture
def tables() -> Iterator[None]:
    """What a page adds to a table is gone after its test."""
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_code_in_the_pages(block: str, tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "page", "exec"), {})


def test_links_in_the_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
