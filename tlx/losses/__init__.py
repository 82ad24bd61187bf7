"""Losses as pure functions of arrays.

Losses against labels (`supervised`) return `(total, count)`, whose ratio is the mean. The losses of domain adaptation,
which are named here, return a scalar: most are statistics of a whole set, which no sum over rows gives. Their default
is the form of the paper; `variant` names the forms of other published implementations.
"""

from tlx.losses.adversarial import cdan_map as cdan_map
from tlx.losses.adversarial import cdan_projections as cdan_projections
from tlx.losses.adversarial import domain_adversarial as domain_adversarial
from tlx.losses.adversarial import entropy_weights as entropy_weights
from tlx.losses.adversarial import gradient_reversal as gradient_reversal
from tlx.losses.adversarial import warm_start as warm_start
from tlx.losses.covariance import coral as coral
from tlx.losses.mmd import jmmd as jmmd
from tlx.losses.mmd import mk_mmd as mk_mmd
from tlx.losses.predictions import entropy as entropy
from tlx.losses.predictions import information_maximization as information_maximization
from tlx.losses.predictions import mcd_discrepancy as mcd_discrepancy
from tlx.losses.predictions import minimum_class_confusion as minimum_class_confusion
from tlx.losses.transport import sinkhorn_alignment as sinkhorn_alignment
