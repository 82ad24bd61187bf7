"""Rules decide in order, cover everything, and none is idle."""

import pytest

from tlx.errors import TlxError
from tlx.params.kinds import kinds_of
from tlx.params.rules import assign

PATHS = [
    "backbone/layer/0/kernel",
    "backbone/layer/0/bias",
    "backbone/LayerNorm/bias",
    "backbone/LayerNorm/scale",
    "heads/a/kernel",
]


def test_first_match_decides_and_the_whole_path_must_match() -> None:
    found = assign(PATHS, [("backbone/layer/.*", 1), (".*kernel", 2), (".*", 3)])
    assert list(found.values()) == [1, 1, 3, 3, 2]
    with pytest.raises(TlxError, match="no rule matches heads/a/kernel"):
        assign(PATHS, [("backbone/.*", 1)])


def test_kinds() -> None:
    found = assign(PATHS, [("kind:norm", "n"), ("kind:bias", "b"), (".*", "r")])
    assert list(found.values()) == ["r", "b", "n", "n", "r"]
    assert kinds_of("x/LayerNorm/bias") == {"bias", "norm"}
    assert kinds_of("BatchNorm_0/scale") == {"norm"}
    assert kinds_of("blocks/ln_1/bias") == {"bias", "norm"}
    assert kinds_of("word/embedding") == {"embedding"}
    assert kinds_of("cls_token") == {"token"}
    assert kinds_of("a/b") == frozenset()
    assert kinds_of("a/b", [("a/.*", ("kernel", "token"))]) == {"kernel", "token"}
    assert "norm" not in kinds_of("normalizer_free/dense/kernel") | kinds_of("enormous/kernel")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [(".*", 1), ("heads/.*", 2)],
            r"'heads/\.\*' has no effect; the earlier '\.\*' already matched its 1 parameters",
        ),
        (
            [("head/.*", 1), (".*", 2)],
            r"matches no parameter \(it must match the whole path\); nearest: .*heads/a/kernel",
        ),
        ([("kind:weights", 1), (".*", 2)], "is not a known kind; the kinds are bias, norm, kernel, embedding, token"),
        ([("backbone/(", 1)], "is not a regular expression"),
        (["backbone/.*"], "a rule must be a pair"),
    ],
)
def test_rules_that_cannot_be_meant(rules: list, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        assign(PATHS, rules)


def test_shipped_rules_come_last_and_may_stay_unused() -> None:
    found = assign(PATHS, [("heads/.*", "head")], shipped=[("nothing/.*", "x"), (".*", "rest")])
    assert found["heads/a/kernel"] == "head" and found[PATHS[0]] == "rest"
