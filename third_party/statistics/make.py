"""Writes `holm.json`: p-values and what statsmodels' `multipletests(method="holm")` makes of them."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from statsmodels.stats.multitest import multipletests

random = np.random.default_rng(0)
families = [
    [0.01, 0.02, 0.03],
    [0.04, 0.001, 0.03, 0.005],
    [0.5, 0.5, 0.04, 0.04],
    [0.9],
    [0.0, 1.0],
    *(np.round(random.beta(0.4, 2, size), 5).tolist() for size in (5, 12, 40)),
]
cases = [{"p": p, "holm": multipletests(p, method="holm")[1].tolist()} for p in families]
content = {"statsmodels": version("statsmodels"), "cases": cases}
Path(__file__).with_name("holm.json").write_text(json.dumps(content, indent=1) + "\n")
