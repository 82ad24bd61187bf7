"""Writes `reference.json`: p-values after Holm's correction, and of McNemar's exact test, by statsmodels."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
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
tables = [(0, 1), (3, 9), (9, 3), (5, 5), (1, 30), (120, 161)]
tests = [
    {"only_first": b, "only_second": c, "p": float(mcnemar([[7, b], [c, 4]], exact=True).pvalue)} for b, c in tables
]
content = {"statsmodels": version("statsmodels"), "holm": cases, "mcnemar": tests}
Path(__file__).with_name("reference.json").write_text(json.dumps(content, indent=1) + "\n")
