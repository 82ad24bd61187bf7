"""TrAdaBoost against the paper's algorithm written as loops, for labels 0 and 1."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from tlx.errors import TlxError
from tlx.features.tradaboost import TrAdaBoost

RANDOM = np.random.default_rng(7)
STUMP = DecisionTreeClassifier(max_depth=1, random_state=0)


def problem(seed: int = 9, angle: float = np.pi / 2) -> tuple[np.ndarray, ...]:
    """The target's label is the sign of the first feature; half of the source's are that of another direction."""
    random = np.random.default_rng(seed)

    def labels(x: np.ndarray, direction: list[float]) -> np.ndarray:
        return (x @ np.array(direction) + 0.2 * random.normal(size=len(x)) > 0).astype(int)

    xs, xt, xe = (random.normal(size=(size, 2)) for size in (200, 20, 500))
    misleading = random.random(200) < 0.5
    ys = np.where(misleading, labels(xs, [np.cos(angle), np.sin(angle)]), labels(xs, [1, 0]))
    return xs, ys, xt, labels(xt, [1, 0]), xe, labels(xe, [1, 0])


def by_the_paper(xs: np.ndarray, ys: np.ndarray, xt: np.ndarray, yt: np.ndarray, x: np.ndarray, rounds: int) -> list:
    """Algorithm 1, with ε bounded by ½ and 1e-10; the learner gets weights of mean 1."""
    n, m = len(xs), len(xt)
    rows, labels = np.concatenate([xs, xt]), np.concatenate([ys, yt])
    w = [1.0] * (n + m)
    beta = 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    hypotheses, betas = [], []
    for _ in range(rounds):
        p = [value / sum(w) for value in w]
        h = DecisionTreeClassifier(max_depth=1, random_state=0).fit(rows, labels, sample_weight=np.array(p) * (n + m))
        says = h.predict(rows)
        error = sum(w[i] * abs(says[i] - labels[i]) for i in range(n, n + m)) / sum(w[n:])
        error = min(max(error, 1e-10), 0.5)
        beta_t = error / (1 - error)
        for i in range(n + m):
            w[i] *= beta ** abs(says[i] - labels[i]) if i < n else beta_t ** -abs(says[i] - labels[i])
        hypotheses.append(h)
        betas.append(beta_t)
    found = []
    for row in x:
        votes = [(b, h.predict(row[None])[0]) for b, h in zip(betas, hypotheses)][math.ceil(rounds / 2) - 1 :]
        left, right = sum(-s * math.log(b) for b, s in votes), sum(-0.5 * math.log(b) for b, _ in votes)
        found.append(int(left >= right - 1e-12))
    return found


@pytest.mark.parametrize("rounds", [1, 6, 7])
def test_against_the_paper(rounds: int) -> None:
    xs, ys, xt, yt, xe, _ = problem()
    fitted = TrAdaBoost(STUMP, rounds=rounds).fit(xs, ys, xt, yt)
    assert fitted.errors_.max() < 0.5 and len(set(fitted.errors_)) > rounds // 2
    assert fitted.predict(xe[:60]).tolist() == by_the_paper(xs, ys, xt, yt, xe[:60], rounds)


def test_source_rows_that_mislead_lose_their_influence() -> None:
    """With logistic regression, on ten draws: much better than all rows alike, and not worse than the target alone."""
    boosted, both, alone = [], [], []
    for seed in range(10):
        xs, ys, xt, yt, xe, ye = problem(seed, 2.2)
        boosted.append((TrAdaBoost().fit(xs, ys, xt, yt).predict(xe) == ye).mean())
        both.append(LogisticRegression().fit(np.concatenate([xs, xt]), np.concatenate([ys, yt])).score(xe, ye))
        alone.append(LogisticRegression().fit(xt, yt).score(xe, ye))
    assert np.mean(boosted) > np.mean(both) + 0.1 and np.mean(boosted) > np.mean(alone) - 0.02


def test_several_classes_by_their_names() -> None:
    xs, xt = RANDOM.normal(size=(60, 2)), RANDOM.normal(size=(30, 2))
    names = np.array(["a", "b", "c"])
    ys, yt = (names[np.digitize(x[:, 0], [-0.5, 0.5])] for x in (xs, xt))
    fitted = TrAdaBoost(DecisionTreeClassifier(max_depth=2), rounds=5).fit(xs, ys, xt, yt)
    assert (fitted.predict(xt) == yt).mean() > 0.9 and (fitted.errors_ <= 0.5).all()


def test_errors_above_a_half_are_capped() -> None:
    """A target that contradicts everything: votes of 0, and still a class for each row."""
    x = RANDOM.normal(size=(40, 1))
    labels = (x[:, 0] > 0).astype(int)
    noise = np.array([0, 1] * 10)
    fitted = TrAdaBoost(DecisionTreeClassifier(max_depth=1), rounds=3).fit(x, labels, np.zeros((20, 1)), noise)
    assert (fitted.errors_ <= 0.5).all() and set(fitted.predict(x)) <= {0, 1}
    with pytest.raises(TlxError, match="0 target rows"):
        TrAdaBoost().fit(x, labels, x[:0], labels[:0])
