"""Transfer component analysis (Pan et al. 2011): components of both domains in which their means are close.

scikit-adaptation and adapt give an eigensolver for symmetric matrices (I + μ K L K)⁻¹ K H K, which is not symmetric.
Here the generalized symmetric problem is solved as it stands.
"""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from tlx.errors import TlxError


class TransferComponents(BaseEstimator):
    """TCA: W minimizes tr(WᵀW) + μ tr(Wᵀ K L K W) under Wᵀ K H K W = I.

    K is the kernel of all rows of both domains, tr(Wᵀ K L K W) the squared distance of the domains' means in the
    components, and K H K their scatter. The columns of W are generalized eigenvectors of (K H K, I + μ K L K) of the
    largest eigenvalues. Needs memory and time of the square and the cube of all rows.

    It assumes that labels depend on the components in the same way in both domains; the classes' frequencies decide the
    means, so that with other frequencies it removes what tells the classes apart.

    Args:
      components: how many; None: as many as features. Those without scatter are left out.
      trade_off: μ.
      kernel: a kernel's name, of `sklearn.metrics.pairwise.pairwise_kernels`.
      gamma: the kernel's gamma; None: 1 / features.

    Attributes:
      weights_: W, (rows of both domains, components).
      rows_: the rows of both domains, the source first.
    """

    def __init__(
        self, components: int | None = None, *, trade_off: float = 1.0, kernel: str = "rbf", gamma: float | None = None
    ):
        self.components, self.trade_off, self.kernel, self.gamma = components, trade_off, kernel, gamma

    def fit(self, source: np.ndarray, target: np.ndarray) -> Self:
        """Finds the components.

        Args:
          source: (n, features).
          target: (m, features).

        Raises:
          TlxError: if a setting has a wrong value.
        """
        from scipy.linalg import eigh

        source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
        wanted = source.shape[1] if self.components is None else self.components
        if wanted < 1 or self.trade_off < 0:
            raise TlxError(
                f"TransferComponents has components {self.components} and trade_off {self.trade_off}; they are at "
                "least 1 and at least 0."
            )
        self.rows_ = np.concatenate([source, target])
        kernel = self._kernel(self.rows_)
        side = np.concatenate([np.full(len(source), 1 / len(source)), np.full(len(target), -1 / len(target))])
        gap = kernel @ side  # K L K is the outer product of this vector
        centred = kernel - kernel.mean(axis=0)
        total = len(kernel)
        values, vectors = eigh(
            centred.T @ centred, np.eye(total) + self.trade_off * np.outer(gap, gap),
            subset_by_index=[max(total - wanted, 0), total - 1],
        )  # fmt: skip
        values, vectors = values[::-1], vectors[:, ::-1]
        some = values > max(values[0], 0) * total * np.finfo(np.float64).eps
        self.weights_ = vectors[:, some] / np.sqrt(values[some])  # from WᵀAW = I to WᵀKHKW = I
        return self

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """The components of rows of either domain, float64 (rows, components)."""
        found: np.ndarray = self._kernel(np.asarray(rows, np.float64)) @ self.weights_
        return found

    def _kernel(self, rows: np.ndarray) -> Any:
        from sklearn.metrics.pairwise import pairwise_kernels

        return pairwise_kernels(rows, self.rows_, metric=self.kernel, filter_params=True, gamma=self.gamma)
