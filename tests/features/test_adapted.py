"""The wrappers of scikit-adaptation against closed forms, an exact assignment and SciPy."""

from typing import Any

import numpy as np
import pytest
import sklearn
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from tlx.errors import TlxError
from tlx.features import adapted
from tlx.features.adapted import ADAPTERS, AdaptedClassifier

RANDOM = np.random.default_rng(3)
LABELS = np.array(["no", "yes"])[RANDOM.integers(0, 2, 40)]
SOURCE = RANDOM.normal(size=(40, 3)) + 2.0 * (LABELS == "yes")[:, None]
TARGET = SOURCE @ np.array([[1.5, 0.3, 0.0], [0.0, 0.7, 0.2], [0.1, 0.0, 1.2]]) + RANDOM.normal(size=(40, 3)) / 5
NEAREST = KNeighborsClassifier(1)


@pytest.fixture
def skada() -> Any:
    with sklearn.config_context():
        return pytest.importorskip("skada")


def predicted(method: str, estimator: Any, **settings: Any) -> list[str]:
    return AdaptedClassifier(method, estimator, settings=settings).fit(SOURCE, LABELS, TARGET).predict(TARGET).tolist()


def test_linear_coral(skada: Any) -> None:
    """The source whitened and coloured with the target's covariance."""
    of_source, of_target = np.cov(SOURCE.T, bias=True), np.cov(TARGET.T, bias=True)
    moved = SOURCE @ np.linalg.inv(sqrtm(of_source)).real @ sqrtm(of_target).real
    for estimator in (NEAREST, LogisticRegression()):
        expected = estimator.fit(moved, LABELS).predict(TARGET).tolist()
        assert predicted("linear_coral", estimator, reg=0.0) == expected


def test_subspace_alignment(skada: Any) -> None:
    """Source and target in their principal axes, the source's turned by Xsᵀ Xt (both centred)."""

    def axes(x: np.ndarray) -> np.ndarray:
        return np.linalg.svd(x - x.mean(axis=0))[2][:2].T

    left, right = axes(SOURCE), axes(TARGET)
    moved = (SOURCE - SOURCE.mean(axis=0)) @ left @ left.T @ right
    expected = NEAREST.fit(moved, LABELS).predict((TARGET - TARGET.mean(axis=0)) @ right).tolist()
    assert predicted("subspace_alignment", NEAREST, n_components=2) == expected


def test_ot_mapping(skada: Any) -> None:
    """Between sets of one size it is an assignment: a target row gets the label of the source row that moves there."""
    source, target = linear_sum_assignment(cdist(SOURCE, TARGET, "sqeuclidean"))
    expected = LABELS[source[np.argsort(target)]].tolist()
    assert predicted("ot_mapping", NEAREST) == expected


def test_kmm_is_exact(skada: Any) -> None:
    """Its weights satisfy the conditions of optimality of min ½ wᵀ K w − κᵀ w with 0 ≤ w ≤ B."""
    fitted = AdaptedClassifier("kmm", SVC(), settings={"gamma": 0.5, "tol": 1e-12}).fit(SOURCE, LABELS, TARGET)
    weights = fitted.pipeline_.named_steps["kmmreweightadapter"].base_estimator_.source_weights_
    kernel = rbf_kernel(SOURCE, gamma=0.5)
    slope = kernel @ weights - 40 * rbf_kernel(SOURCE, TARGET, gamma=0.5).mean(axis=1)
    free = weights > 1e-6
    assert abs(weights.sum() - 40) < 39 and free.any() and (~free).any()  # the bounds of the sum are not met
    np.testing.assert_allclose(slope[free], 0, atol=1e-3)
    assert (slope[~free] > -1e-3).all()
    assert fitted.predict(TARGET).shape == (40,)


@pytest.mark.parametrize("method", ["linear_ot_mapping", "entropic_ot_mapping"])
def test_the_other_methods_adapt(skada: Any, method: str) -> None:
    """A linear change of the features, which they undo."""
    truth = LogisticRegression().fit(SOURCE, LABELS)
    turned = AdaptedClassifier(method).fit(SOURCE, LABELS, SOURCE @ np.diag([3.0, 3.0, 3.0]) + 5)
    agree = (turned.predict(SOURCE @ np.diag([3.0, 3.0, 3.0]) + 5) == truth.predict(SOURCE)).mean()
    assert agree > 0.9


def test_the_settings_of_scikit_learn_stay(skada: Any) -> None:
    before = sklearn.get_config()
    fitted = AdaptedClassifier().fit(SOURCE, LABELS, TARGET)
    fitted.predict(TARGET)
    assert sklearn.get_config() == before
    assert sklearn.clone(AdaptedClassifier("kmm", settings={"B": 2.0})).get_params()["settings"] == {"B": 2.0}
    assert all(hasattr(skada, name) for name, _ in ADAPTERS.values())


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TlxError, match="no method 'coral'"):
        AdaptedClassifier("coral").fit(SOURCE, LABELS, TARGET)
    monkeypatch.setitem(__import__("sys").modules, "skada", None)
    with pytest.raises(TlxError, match=r"pip install 'tlx\[adaptation\]'"):
        adapted.AdaptedClassifier().fit(SOURCE, LABELS, TARGET)
