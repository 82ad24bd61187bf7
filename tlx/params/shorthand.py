"""What people usually freeze or train, by name, as rules."""

import re
from collections.abc import Iterable, Sequence

from tlx.errors import TlxError, listed
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.rules import Rules, matches

EMBEDDINGS = "backbone/embeddings.*"  # ELECTRA's projection of them too
PARTS = {
    "backbone": ("backbone/.*",),
    "embeddings": (EMBEDDINGS,),
    "pooler": ("backbone/pooler/.*",),
    "heads": ("heads/.*",),
    "norms": ("kind:norm",),
    "biases": ("kind:bias",),
}
ALWAYS = ("heads/.*", "adapters/.*", "aux/.*")  # what is new learns whichever part of the backbone does


def freeze_rules(parts: str, blocks: Sequence[str], paths: Iterable[str]) -> Rules:
    """Rules that freeze these parts.

    Args:
      parts: joined by commas: `backbone`, `embeddings`, `pooler`, `heads`, `norms`, `biases`; `first:K`, the embeddings
        and the first K blocks; `last:K`, the last K blocks and what follows them in the backbone.
      blocks: path prefixes of the backbone's blocks, in order, without the embeddings.
      paths: those of the tree.
    """
    return tuple((selector, FROZEN) for selector in _selectors(parts, blocks, list(paths)))


def train_rules(
    parts: str, blocks: Sequence[str], paths: Iterable[str], group: str = "default", kinds: KindTable | None = None
) -> Rules:
    """Rules that train these parts and whatever is no backbone (heads, adapters), and freeze the rest.

    `biases` is BitFit (Ben Zaken et al. 2022), `heads` a linear probe.

    Args:
      parts, blocks, paths: as of `freeze_rules`.
      group: to which what is trained goes.
      kinds: the family's table of kinds.
    """
    paths = list(paths)
    chosen = _selectors(parts, blocks, paths)
    implied = [s for s in ALWAYS if s not in chosen and any(re.fullmatch(s, path) for path in paths)]
    every = [*chosen, *implied]
    left = any(not any(matches(selector, path, kinds) for selector in every) for path in paths)
    return (*((selector, group) for selector in every), *(((".*", FROZEN),) if left else ()))


def _selectors(parts: str, blocks: Sequence[str], paths: Sequence[str]) -> list[str]:
    return [selector for part in parts.split(",") for selector in _of_part(part.strip(), blocks, paths)]


def _of_part(part: str, blocks: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    if part in PARTS:
        return PARTS[part]
    found = re.fullmatch(r"(first|last):(\d+)", part)
    if not found:
        known = listed([*PARTS, "first:K", "last:K"])
        raise TlxError(f"params.freeze and params.trainable name parts of the model: {known}; found {part!r}.")
    count = int(found[2])
    if not 1 <= count <= len(blocks):
        raise TlxError(f"{part!r} asks for {count} blocks; this backbone has {len(blocks)}.")
    lowest = found[1] == "first"
    chosen = blocks[:count] if lowest else blocks[len(blocks) - count :]
    beside = EMBEDDINGS if lowest else _end(blocks)
    there = any(re.fullmatch(beside, path) for path in paths)
    return (*((beside,) if there else ()), *(f"{re.escape(block)}/.*" for block in chosen))


def _end(blocks: Sequence[str]) -> str:
    """What follows the blocks within the backbone: a pooler, a final layer norm."""
    names = [block.removeprefix("backbone/") for block in blocks]
    parents = {name.rpartition("/")[0] for name in names}
    below = names if len(parents) > 1 or "" in parents else sorted(parents)
    return rf"backbone/(?!embeddings)(?!(?:{'|'.join(map(re.escape, below))})/).*"
