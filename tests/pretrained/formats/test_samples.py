"""Files that PyTorch, safetensors and Flax wrote are read to the bit (third_party/formats)."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tlx.pretrained.formats.folder import open_tensors

SAMPLES = Path(__file__).parents[3] / "third_party" / "formats"
FOLDERS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")


def expected(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "expected.npz") as stored:
        return {
            name.removesuffix(":bfloat16"): bits.view(ml_dtypes.bfloat16) if name.endswith(":bfloat16") else bits
            for name, bits in stored.items()
        }


@pytest.mark.parametrize("name", FOLDERS)
def test_every_tensor_is_read_to_the_bit(name: str) -> None:
    opened, wanted = open_tensors(SAMPLES / name), expected(SAMPLES / name)
    assert opened.kind == name.partition("_")[0]
    assert opened.tensors.keys() == wanted.keys()
    for tensor, stored in opened.tensors.items():
        array = stored.read()
        assert (
            (stored.shape, stored.dtype) == (array.shape, array.dtype) == (wanted[tensor].shape, wanted[tensor].dtype)
        )
        assert array.tobytes() == wanted[tensor].tobytes()
        assert array.flags.aligned
