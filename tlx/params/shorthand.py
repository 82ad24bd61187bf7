"""Short names for common choices of what to freeze or train, translated to rules."""

import re
from collections.abc import Iterable, Sequence

from tlx.errors import TlxError, listed
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.rules import Rules, matches

EMBEDDINGS = "backbone/embeddings.*"  # also matches ELECTRA's `embeddings_project`
PARTS = {
    "backbone": ("backbone/.*",),
    "embeddings": (EMBEDDINGS,),
    "pooler": ("backbone/pooler/.*",),
    "heads": ("heads/.*",),
    "norms": ("kind:norm",),
    "biases": ("kind:bias",),
}
ALWAYS = ("heads/.*", "adapters/.*", "aux/.*")  # new parameters are trained whichever part of the backbone is


def freeze_rules(parts: str, blocks: Sequence[str], paths: Iterable[str]) -> Rules:
    """Returns rules that freeze these parts.

    Args:
      parts: names joined by commas: `backbone`, `embeddings`, `pooler`, `heads`, `norms`, `biases`; `first:K` for the
        embeddings and the first K blocks; `last:K` for the last K blocks and the layers after them in the backbone.
      blocks: path prefixes of the backbone's blocks, in order, without the embeddings.
      paths: the paths of all parameters.

    Raises:
      TlxError: if a part does not exist.
    """
    return tuple((selector, FROZEN) for selector in _selectors(parts, blocks, list(paths)))


def train_rules(
    parts: str, blocks: Sequence[str], paths: Iterable[str], group: str = "default", kinds: KindTable | None = None
) -> Rules:
    """Returns rules that train these parts and all parameters outside the backbone, and freeze the rest.

    `biases` is BitFit (Ben Zaken et al. 2022), `heads` is linear probing.

    Args:
      parts: as in `freeze_rules`.
      blocks: as in `freeze_rules`.
      paths: as in `freeze_rules`.
      group: the group of the trainable parameters.
      kinds: the family's table of kinds.

    Raises:
      TlxError: if a part does not exist.
    """
    paths = list(paths)
    named = _selectors(parts, blocks, paths)
    implied = [s for s in ALWAYS if s not in named and any(re.fullmatch(s, path) for path in paths)]
    trained = [*named, *implied]
    has_frozen = any(not any(matches(selector, path, kinds) for selector in trained) for path in paths)
    return (*((selector, group) for selector in trained), *(((".*", FROZEN),) if has_frozen else ()))


def _selectors(parts: str, blocks: Sequence[str], paths: Sequence[str]) -> list[str]:
    return [selector for part in parts.split(",") for selector in _part_selectors(part.strip(), blocks, paths)]


def _part_selectors(part: str, blocks: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    if part in PARTS:
        return PARTS[part]
    match = re.fullmatch(r"(first|last):(\d+)", part)
    if not match:
        known = listed([*PARTS, "first:K", "last:K"])
        raise TlxError(f"params.freeze and params.trainable name parts of the model: {known}; found {part!r}.")
    count = int(match[2])
    if not 1 <= count <= len(blocks):
        raise TlxError(f"{part!r} asks for {count} blocks; this backbone has {len(blocks)}.")
    from_bottom = match[1] == "first"
    selected = blocks[:count] if from_bottom else blocks[len(blocks) - count :]
    adjacent = EMBEDDINGS if from_bottom else _end(blocks)
    exists = any(re.fullmatch(adjacent, path) for path in paths)
    return (*((adjacent,) if exists else ()), *(f"{re.escape(block)}/.*" for block in selected))


def _end(blocks: Sequence[str]) -> str:
    """A selector of the layers after the blocks in the backbone: a pooler, a final layer norm."""
    names = [block.removeprefix("backbone/") for block in blocks]
    parents = {name.rpartition("/")[0] for name in names}
    below = names if len(parents) > 1 or "" in parents else sorted(parents)
    return rf"backbone/(?!embeddings)(?!(?:{'|'.join(map(re.escape, below))})/).*"
