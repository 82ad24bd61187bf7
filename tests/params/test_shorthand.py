"""Shorthands against sets of paths written out by hand, on trees of a text and an image family."""

import pytest

from tlx.errors import TlxError
from tlx.params.rules import assign
from tlx.params.shorthand import freeze_rules, train_rules

BLOCKS = tuple(f"backbone/encoder/layer/{i}" for i in range(12))
EMBEDDINGS = ("backbone/embeddings/word_embeddings/embedding", "backbone/embeddings_project/kernel")
END = ("backbone/layernorm/scale", "backbone/layernorm/bias", "backbone/pooler/dense/kernel")
HEAD = ("heads/default/output/kernel", "heads/default/output/bias")
INSIDE = ("attention/self/query/kernel", "attention/self/query/bias", "layernorm_before/scale", "layernorm_before/bias")
PATHS = (*EMBEDDINGS, *(f"{block}/{leaf}" for block in BLOCKS for leaf in INSIDE), *END, *HEAD)


def frozen_by(rules: object) -> set[str]:
    return {path for path, group in assign(PATHS, rules, shipped=((".*", "default"),)).items() if group == "frozen"}  # type: ignore[arg-type]


def of_blocks(*numbers: int) -> set[str]:
    return {f"{BLOCKS[number]}/{leaf}" for number in numbers for leaf in INSIDE}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("backbone", {*EMBEDDINGS, *of_blocks(*range(12)), *END}),
        ("embeddings", {*EMBEDDINGS}),
        ("first:2", {*EMBEDDINGS, *of_blocks(0, 1)}),
        ("embeddings, last:1", {*EMBEDDINGS, *of_blocks(11), *END}),
        ("pooler", {"backbone/pooler/dense/kernel"}),
        ("heads", {*HEAD}),
        ("norms", {path for path in PATHS if "layernorm" in path}),
        ("biases", {path for path in PATHS if path.endswith("bias")}),
    ],
)
def test_frozen(parts: str, expected: set[str]) -> None:
    assert frozen_by(freeze_rules(parts, BLOCKS, PATHS)) == expected


@pytest.mark.parametrize(
    ("parts", "learning"),
    [
        ("heads", {*HEAD}),
        ("last:1", {*of_blocks(11), *END, *HEAD}),
        ("last:11", {*of_blocks(*range(1, 12)), *END, *HEAD}),
        ("embeddings", {*EMBEDDINGS, *HEAD}),
        ("norms", {*(path for path in PATHS if "layernorm" in path), *HEAD}),
        ("biases", {*(path for path in PATHS if path.endswith("bias")), *HEAD}),
        ("backbone", {*PATHS}),
    ],
)
def test_trained(parts: str, learning: set[str]) -> None:
    assert {*PATHS} - frozen_by(train_rules(parts, BLOCKS, PATHS)) == learning


def test_what_is_no_part() -> None:
    with pytest.raises(TlxError, match=r"name parts of the model: backbone, .*last:K; found 'lasst:2'"):
        train_rules("lasst:2", BLOCKS, PATHS)
    with pytest.raises(TlxError, match="'first:13' asks for 13 blocks; this backbone has 12"):
        freeze_rules("first:13", BLOCKS, PATHS)
    with pytest.raises(TlxError, match=r"the rule 'backbone/pooler/\.\*' matches no parameter"):
        assign(HEAD, freeze_rules("pooler", BLOCKS, PATHS), shipped=((".*", "default"),))


def test_a_backbone_without_an_end_or_embeddings() -> None:
    """DistilBERT has nothing after its blocks; a module of one's own names its blocks as it likes."""
    paths = ("backbone/low/kernel", "backbone/high/kernel", "heads/default/output/kernel")
    blocks = ("backbone/low", "backbone/high")
    shipped = ((".*", "default"),)
    learning = assign(paths, train_rules("last:1", blocks, paths), shipped=shipped)
    assert [path for path, group in learning.items() if group != "frozen"] == list(paths[1:])
    frozen = assign(paths, freeze_rules("first:1", blocks, paths), shipped=shipped)
    assert [path for path, group in frozen.items() if group == "frozen"] == [paths[0]]
