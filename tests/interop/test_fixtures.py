"""The reference files under third_party/ are what their command makes."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.models.reference import THIRD_PARTY

pytestmark = pytest.mark.interop

SOME = (
    "bert/plain", "bert/dropout", "bert/base_no_pooler", "bert/act_mish",
    "roberta/masked_lm", "electra/multiple_choice", "distilbert/dropout", "vit/oblong_image", "deit/dropout",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(torch_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some variants, made again elsewhere."""
    out = tmp_path_factory.mktemp("made")
    command = [torch_python, str(THIRD_PARTY / "make" / "make.py"), "--out", str(out), "--only", *SOME]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    return out


@pytest.mark.parametrize("name", SOME)
def test_made_again_it_is_the_same(name: str, made: Path) -> None:
    committed = THIRD_PARTY / name
    assert (made / name / "model.safetensors").read_bytes() == (committed / "model.safetensors").read_bytes()
    configs = [json.loads((folder / name / "config.json").read_text()) for folder in (made, THIRD_PARTY)]
    assert configs[0] == configs[1]
    with np.load(made / name / "reference.npz") as now, np.load(committed / "reference.npz") as then:
        assert set(now) == set(then)
        for key in then:  # the last bits are the processor's
            np.testing.assert_allclose(now[key], then[key], rtol=0, atol=1e-12 * (1 + np.abs(then[key]).max()))
