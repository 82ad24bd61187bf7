"""Layer-wise rates against the exponents of the published rules, written out for ViT-B's and BERT's twelve blocks."""

import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.optim.groups import multiplied
from tlx.optim.layerwise import discriminative_rules, layer_decay_rules

BLOCKS = tuple(f"backbone/encoder/layer/{i}" for i in range(12))
# Path -> the exponent of the decay under each convention. timm: group_parameters numbers cls_token, pos_embed and
# patch_embed 0, blocks.i i + 1, norm as the last block and the head above it; the scale is decay^(highest - number).
# BEiT's get_num_layer_for_vit gives the norm the head's number. ELECTRA's get_layer_lrs: embeddings 0, block i i + 1,
# the head 12 + 2. Sun et al. 2019: the top block at the run's rate.
EXPONENTS = {
    "backbone/embeddings/position_embeddings": {"timm": 13, "beit": 13, "bert": 12, "electra": 14},
    "backbone/encoder/layer/0/attention/output/dense/kernel": {"timm": 12, "beit": 12, "bert": 11, "electra": 13},
    "backbone/encoder/layer/1/attention/output/dense/kernel": {"timm": 11, "beit": 11, "bert": 10, "electra": 12},
    "backbone/encoder/layer/10/layernorm_after/scale": {"timm": 2, "beit": 2, "bert": 1, "electra": 3},
    "backbone/encoder/layer/11/output/dense/bias": {"timm": 1, "beit": 1, "bert": 0, "electra": 2},
    "backbone/layernorm/scale": {"timm": 1, "beit": 0, "bert": 0, "electra": 0},
    "heads/default/output/kernel": {"timm": 0, "beit": 0, "bert": 0, "electra": 0},
}
EVERY = {
    **{f"{block}/attention/query/kernel": None for block in BLOCKS},
    **dict.fromkeys(EXPONENTS),
}


@pytest.mark.parametrize("convention", ["timm", "beit", "bert", "electra"])
def test_published_exponents(convention: str) -> None:
    found = multiplied(EVERY, layer_decay_rules(0.75, convention, BLOCKS, EVERY))
    for path, exponents in EXPONENTS.items():
        assert found[path] == pytest.approx(0.75 ** exponents[convention], rel=1e-12), path


def test_the_floor_is_timms_min_scale() -> None:
    """`layer_scales = list(max(min_scale, layer_decay ** (layer_max - i)) for i in range(num_layers))`."""
    found = multiplied(EVERY, layer_decay_rules(0.75, "timm", BLOCKS, EVERY, 0.1))
    for path, exponents in EXPONENTS.items():
        assert found[path] == pytest.approx(max(0.1, 0.75 ** exponents["timm"]), rel=1e-12), path


def test_discriminative_is_fastais_slice() -> None:
    """`even_mults(1e-6, 1e-3, 14)` of fastai: equal ratios; NumPy's geomspace is the reference."""
    found = multiplied(EVERY, discriminative_rules(1e-6, 1e-3, 5e-4, BLOCKS, EVERY))
    rates = np.geomspace(1e-6, 1e-3, 14)
    assert found["backbone/embeddings/position_embeddings"] * 5e-4 == pytest.approx(rates[0])
    for index, block in enumerate(BLOCKS):
        assert found[f"{block}/attention/query/kernel"] * 5e-4 == pytest.approx(rates[index + 1])
    assert found["heads/default/output/kernel"] * 5e-4 == pytest.approx(rates[13])


def test_refusals() -> None:
    with pytest.raises(TlxError, match="layer_decay_convention is 'timmm'; tlx has bert, timm, beit, electra"):
        layer_decay_rules(0.75, "timmm", BLOCKS, EVERY)
    with pytest.raises(TlxError, match=r"layer_decay is 1\.5; it must be above 0 and at most 1"):
        layer_decay_rules(1.5, "timm", BLOCKS, EVERY)
    with pytest.raises(TlxError, match="both above 0"):
        discriminative_rules(1e-3, 1e-6, 5e-4, BLOCKS, EVERY)
