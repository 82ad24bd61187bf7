"""A row depends on the key and its id alone; what is off does nothing; bad settings are refused in one sentence."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.augment.pictures import as_float
from tlx.augment import keys
from tlx.augment.mixing import Mix, draw_partners, mix_images, mix_labels
from tlx.augment.operations import OPERATIONS
from tlx.augment.pipeline import MIX_STREAM, augment
from tlx.augment.settings import PRESETS, Augmentation, preset
from tlx.errors import TlxError
from tlx.parallel.layout import make_layout

ROWS = 16
EVERY = Augmentation(
    crop=(0.3, 1.0), flip=0.5, vertical_flip=0.5, rotate=20, shear=10, translate=0.1, zoom=(0.8, 1.2), warp="bilinear",
    randaugment_ops=2, randaugment_spread=3.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.3,
    erase=0.5,
)  # fmt: skip
MIXES = {
    "mixup": Augmentation(mixup=0.4),
    "cutmix": Augmentation(cutmix=1.0),
    "each": Augmentation(mixup=0.4, cutmix=1.0, mix_per="example"),
}


def batch(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    ids = random.permutation(10_000)[:rows].astype(np.int32)
    return random.integers(0, 256, (rows, 18, 21, 3), dtype=np.uint8), ids, np.ones(rows, bool)


def padded(given: Sequence[np.ndarray], rows: int) -> tuple[np.ndarray, ...]:
    images, ids, valid = given
    return (
        np.concatenate([images, np.zeros((rows, *images.shape[1:]), np.uint8)]),
        np.concatenate([ids, np.full(rows, -1, ids.dtype)]),
        np.concatenate([valid, np.zeros(rows, bool)]),
    )


@functools.cache
def compiled(settings: Augmentation) -> Any:
    """As users compile it: without XLA's fusion emitters (tests/conftest.py) bits hang on the size of the batch."""
    emitters = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ["XLA_FLAGS"] else None
    return jax.jit(functools.partial(augment, settings), compiler_options=emitters)


def run(settings: Augmentation, given: Any, seed: int = 3) -> tuple[np.ndarray, Mix | None]:
    images, mix = compiled(settings)(jax.random.key(seed), *given)
    return np.asarray(images), mix


@pytest.mark.parametrize(
    "settings",
    [pytest.param(EVERY, marks=pytest.mark.long, id="every"), pytest.param(PRESETS["flip_crop"], id="flip_crop")],
)
def test_rows_depend_on_their_ids_alone(settings: Augmentation) -> None:
    given = batch()
    whole, _ = run(settings, given)
    assert not np.array_equal(whole, as_float(given[0])) and np.isfinite(whole).all()
    assert whole.min() >= 0 and whole.max() <= 1
    order = np.random.default_rng(2).permutation(ROWS)
    np.testing.assert_array_equal(run(settings, [x[order] for x in given])[0], whole[order])
    for half in (slice(0, 8), slice(8, 16)):
        np.testing.assert_array_equal(run(settings, [x[half] for x in given])[0], whole[half])
    np.testing.assert_array_equal(run(settings, padded([x[3:11] for x in given], 8))[0][:8], whole[3:11])
    cut = jax.device_put(given, make_layout().batch)
    assert len(cut[0].sharding.device_set) == 8
    np.testing.assert_array_equal(run(settings, cut)[0], whole)
    other, _ = run(settings, given, seed=4)
    assert (np.abs(other - whole).max((1, 2, 3)) > 0).mean() > 0.8
    same = (np.repeat(given[0][:1], ROWS, 0), given[1], given[2])  # one image under different ids
    assert len({row.tobytes() for row in run(settings, same)[0]}) > ROWS * 0.8


@pytest.mark.long
@pytest.mark.parametrize("name", MIXES)
def test_mixing_depends_on_the_set_of_ids(name: str) -> None:
    settings, given = MIXES[name], batch()
    whole, mix = run(settings, given)
    assert mix is not None
    order = np.random.default_rng(2).permutation(ROWS)
    cut = jax.device_put(given, make_layout().batch)
    others: list[tuple[Any, Any]] = [([x[order] for x in given], order)]
    others += [(padded(given, 8), None)] * (name != "mixup") + [(cut, None)] * (name != "cutmix")  # compile for seconds
    for other, place in others:
        images, again = run(settings, other)
        assert again is not None
        place = np.arange(ROWS) if place is None else place
        np.testing.assert_array_equal(images[:ROWS], whole[place])
        np.testing.assert_array_equal(np.asarray(again.lam)[:ROWS], np.asarray(mix.lam)[place])
        partners = np.asarray(other[1])[np.asarray(again.partner)]
        np.testing.assert_array_equal(partners[:ROWS], given[1][np.asarray(mix.partner)][place])


def test_mixup_and_cutmix_by_hand() -> None:
    given = batch()
    plain = as_float(given[0])
    for seed in range(4):
        images, mix = run(MIXES["mixup"], given, seed)
        assert mix is not None
        lam = float(mix.lam[0])
        np.testing.assert_allclose(images, lam * plain + (1 - lam) * plain[np.asarray(mix.partner)], atol=1e-6)
        images, mix = run(MIXES["cutmix"], given, seed)
        assert mix is not None
        other = np.isclose(images, plain, atol=1e-6).all(-1) < np.isclose(
            images, plain[np.asarray(mix.partner)], atol=1e-6
        ).all(-1)
        np.testing.assert_allclose(1 - other[0].mean(), mix.lam[0], atol=1e-6)
        assert (other == other[0]).all()  # one box for the batch


def test_partners_are_one_cycle_of_the_valid() -> None:
    images, ids, valid = padded(batch(), 6)
    del images
    valid = valid.copy()
    valid[[2, 9]] = False
    cycles = set()
    for seed in range(6):
        partner = np.asarray(jax.jit(draw_partners)(jax.random.key(seed), ids, valid))
        assert (partner[~valid] == np.flatnonzero(~valid)).all()
        row, seen = int(np.flatnonzero(valid)[0]), []
        while row not in seen:
            seen.append(row)
            row = int(partner[row])
        assert sorted(seen) == np.flatnonzero(valid).tolist()
        cycles.add(tuple(seen))
    assert len(cycles) == 6
    alone = np.asarray(
        jax.jit(draw_partners)(jax.random.key(0), jnp.asarray([5, -1, -1]), jnp.asarray([True, False, False]))
    )
    assert alone.tolist() == [0, 1, 2]


def test_mixed_labels() -> None:
    labels, partner, lam = jnp.asarray([2, 0, 1]), jnp.asarray([1, 2, 0]), jnp.asarray([0.25, 0.5, 1.0])
    expected = [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 1, 0]]
    np.testing.assert_allclose(mix_labels(labels, partner, lam, 3), expected)
    np.testing.assert_allclose(mix_labels(jnp.eye(3)[labels], partner, lam, 3), expected)
    assert mix_labels(labels, partner, lam, 3).dtype == jnp.float32


def test_what_is_off_does_nothing() -> None:
    given = batch()
    whole, mix = run(Augmentation(), given)
    assert mix is None and whole.dtype == np.float32
    np.testing.assert_allclose(whole, as_float(given[0]), atol=1e-7)
    program = jax.make_jaxpr(functools.partial(augment, Augmentation()))(jax.random.key(0), *given)
    assert [equation.primitive.name for equation in program.eqns] == ["convert_element_type", "div"]


def test_an_operation_draws_the_same_whatever_else_is_on() -> None:
    given = batch()
    flipped, _ = run(Augmentation(flip=0.5), given)
    erased, _ = run(Augmentation(flip=0.5, erase=1.0, erase_fill=0.0), given)
    untouched = erased != 0
    np.testing.assert_array_equal(erased[untouched], flipped[untouched])


def test_flips_are_flips() -> None:
    given = batch()
    np.testing.assert_allclose(run(Augmentation(flip=1.0), given)[0], as_float(given[0])[:, :, ::-1], atol=1e-7)
    np.testing.assert_allclose(run(Augmentation(vertical_flip=1.0), given)[0], as_float(given[0])[:, ::-1], atol=1e-7)


def test_it_compiles_once() -> None:
    program = jax.jit(functools.partial(augment, PRESETS["flip_crop"].replace(erase=0.5)))
    images, ids, valid = batch()
    for step in range(3):
        program(jax.random.fold_in(jax.random.key(0), step), images, ids + step, valid)
    assert program._cache_size() == 1


def test_ids_of_64_bits() -> None:
    ids = np.array([0, 5, -1, 2**31 - 1, 5 + 2**32, 2**40 + 1], np.int64)
    split = jax.random.key_data(keys.example_keys(jax.random.key(0), ids))
    assert len({tuple(words) for words in np.asarray(split).tolist()}) == len(ids)
    narrow = jax.random.key_data(keys.example_keys(jax.random.key(0), jnp.asarray(ids[:4], jnp.int32)))
    np.testing.assert_array_equal(narrow, split[:4])
    np.testing.assert_array_equal(jax.random.key_data(keys.example_keys(jax.random.key(0), keys.split_ids(ids))), split)
    with jax.enable_x64(True):
        wide = jax.random.key_data(keys.example_keys(jax.random.key(0), jnp.asarray(ids)))
    np.testing.assert_array_equal(wide, split)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flip": 1.5}, r"augmentation\.flip is 1\.5; give a number from 0 to 1"),
        ({"hue": 0.6}, r"augmentation\.hue is 0\.6; give a number from 0 to 0\.5"),
        ({"mixup": -1}, r"augmentation\.mixup is -1; give a number from 0 on"),
        ({"cutmix": float("nan")}, r"augmentation\.cutmix is nan"),
        ({"grey": True}, r"augmentation\.grey is True"),
        ({"randaugment_magnitude": 31}, r"augmentation\.randaugment_magnitude is 31; give a number from 0 to 30"),
        ({"pad": 2.0}, r"augmentation\.pad is 2\.0; give a whole number from 0"),
        ({"crop": (0.5, 1.2)}, r"augmentation\.crop is \(0\.5, 1\.2\); give \(lowest, highest\) .* ≤ 1\."),
        ({"crop": (0.5,)}, r"augmentation\.crop is \(0\.5,\)"),
        ({"ratio": ()}, r"augmentation\.ratio is \(\)"),
        ({"zoom": (1.2, 0.8)}, r"augmentation\.zoom is \(1\.2, 0\.8\)"),
        ({"interpolation": "lanczos"}, r"augmentation\.interpolation is 'lanczos'; tlx has bilinear, bicubic"),
        ({"warp": "cubic"}, r"augmentation\.warp is 'cubic'; tlx has nearest, bilinear"),
        ({"mix_per": "pair"}, r"augmentation\.mix_per is 'pair'; tlx has batch, example"),
        ({"crop": (0.5, 1.0), "pad": 4}, r"choose one of the two"),
        ({"blurred": 1.0}, r"augmentation has no setting blurred; it has crop, ratio"),
    ],
)
def test_settings_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        Augmentation(**fields)


def test_other_refusals() -> None:
    images, ids, valid = batch()
    with pytest.raises(TlxError, match=r"images must be uint8 .* found float32"):
        augment(Augmentation(), jax.random.key(0), jnp.asarray(as_float(images)), jnp.asarray(ids), jnp.asarray(valid))
    with pytest.raises(TlxError, match=r"example_id must be integers"):
        keys.example_keys(jax.random.key(0), jnp.zeros(3))
    with pytest.raises(TlxError, match=r"augmentation is 'trivial'; tlx has none, flip_crop"):
        preset("trivial")
    with pytest.raises(TlxError, match="mix_per is 'pair'"):
        mix_images(jax.random.key(0), jnp.zeros((2, 4, 4, 3)), jnp.arange(2), jnp.ones(2, bool), mixup=1.0, per="pair")


def test_settings_from_a_config_may_be_lists() -> None:
    assert hash(Augmentation(crop=[0.2, 1.0])) == hash(Augmentation(crop=(0.2, 1.0)))


def test_operations_have_streams_of_their_own_and_share_defaults() -> None:
    streams = [stream for stream, _ in OPERATIONS.values()]
    assert len(set(streams)) == len(streams) and MIX_STREAM not in streams
    assert not any(operation.on for _, operation in Augmentation().operations)
    fields = [field for _, kind in OPERATIONS.values() for field in dataclasses.fields(kind)]
    assert len({(field.name, field.default) for field in fields}) == len({field.name for field in fields})
