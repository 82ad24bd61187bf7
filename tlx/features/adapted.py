"""Classical domain adaptation on features, by scikit-adaptation (the extra `adaptation`, package `skada`)."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from tlx.errors import TlxError, listed

# By name, the class in skada and our settings of it. KMM's default solver there, "frank-wolfe", is approximate; the
# exact one takes minutes for a thousand source rows.
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear_coral": ("CORALAdapter", {}),  # Sun et al. 2016; covariances are shrunk as Ledoit & Wolf do
    "subspace_alignment": ("SubspaceAlignmentAdapter", {}),  # Fernando et al. 2013
    "ot_mapping": ("OTMappingAdapter", {}),  # Courty et al. 2016
    "entropic_ot_mapping": ("EntropicOTMappingAdapter", {}),  # Courty et al. 2016
    "linear_ot_mapping": ("LinearOTMappingAdapter", {}),  # Flamary et al. 2019
    "kmm": ("KMMReweightAdapter", {"solver": "scipy"}),  # Huang et al. 2006
}


class AdaptedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of target features that is fitted on labelled source features and unlabelled target features.

    What the methods assume: `linear_coral` and `linear_ot_mapping`, that the domains differ by a linear map of the
    features; `subspace_alignment`, that they lie in subspaces which correspond by their principal axes; `ot_mapping`
    and `entropic_ot_mapping`, that a class stays the nearest one under transport, with equal class frequencies;
    `kmm`, covariate shift: the same labels at the same features, and a target that lies where there are source rows.

    Args:
      method: a key of `ADAPTERS`.
      estimator: a scikit-learn classifier; for `kmm` its `fit` takes `sample_weight`. None: logistic regression.
      settings: further arguments of skada's adapter.

    Attributes:
      classes_: the classes.
      pipeline_: skada's fitted pipeline, of labels 0, 1, ….
    """

    def __init__(
        self, method: str = "linear_coral", estimator: Any = None, *, settings: Mapping[str, Any] | None = None
    ):
        self.method, self.estimator, self.settings = method, estimator, settings

    def fit(self, source: np.ndarray, labels: Any, target: np.ndarray) -> Self:
        """Adapts, and fits the classifier.

        Args:
          source: (n, features).
          labels: of the source, (n,).
          target: (m, features).

        Raises:
          TlxError: if there is no such method or scikit-adaptation is not installed.
        """
        from sklearn.linear_model import LogisticRegression

        if self.method not in ADAPTERS:
            raise TlxError(f"there is no method {self.method!r} of scikit-adaptation; there are {listed(ADAPTERS)}.")
        name, ours = ADAPTERS[self.method]
        self.classes_, given = np.unique(np.asarray(labels), return_inverse=True)
        rows = np.concatenate([np.asarray(source, np.float64), np.asarray(target, np.float64)])
        hidden = np.concatenate([given, np.full(len(target), -1)])  # skada's sign of a label that is not known
        domains = np.where(np.arange(len(rows)) < len(source), 1, -2)
        with _routing():
            skada = _skada()
            classifier = clone(LogisticRegression() if self.estimator is None else self.estimator)
            if self.method == "kmm":
                classifier.set_fit_request(sample_weight=True)
            adapter = getattr(skada, name)(**{**ours, **(self.settings or {})})
            self.pipeline_ = skada.make_da_pipeline(adapter, classifier)
            self.pipeline_.fit(rows, hidden, sample_domain=domains)
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The classes of target rows, (rows,)."""
        with _routing():
            return self.classes_[self.pipeline_.predict(np.asarray(rows, np.float64))]


@contextlib.contextmanager
def _routing() -> Iterator[None]:
    """scikit-learn's metadata routing, which skada needs; importing it must not leave it on for everyone else."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _skada() -> Any:
    try:
        import skada
    except ImportError:
        raise TlxError("this method needs scikit-adaptation: pip install 'tlx[adaptation]'.") from None
    return skada
