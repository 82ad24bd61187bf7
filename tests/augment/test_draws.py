"""What is drawn follows the stated distributions (Kolmogorov–Smirnov), at fixed seeds."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tlx.augment import boxes, crop, erase, keys, mixing
from tlx.augment.color import color_jitter
from tlx.augment.geometry import random_affine

MANY = 4_000
LEAST = 1e-3  # of the p-value


@pytest.fixture(scope="module")
def many() -> jax.Array:
    return keys.example_keys(jax.random.key(7), jnp.arange(MANY))


def follows(sample: np.ndarray, low: float, high: float) -> bool:
    return bool(stats.kstest(np.asarray(sample), stats.uniform(low, high - low).cdf).pvalue > LEAST)


def test_uniforms_are_uniform_and_independent(many: jax.Array) -> None:
    drawn = np.asarray(jax.vmap(lambda key: jnp.stack([keys.uniforms(keys.derive(key, n), 3) for n in range(3)]))(many))
    columns = drawn.reshape(MANY, 9)
    assert columns.min() >= 0 and columns.max() < 1
    assert all(follows(column, 0, 1) for column in columns.T)
    related = np.corrcoef(columns.T) - np.eye(9)
    assert np.abs(related).max() < 4.5 / math.sqrt(MANY)
    assert np.abs(np.corrcoef(columns[:-1].T, columns[1:].T)[:9, 9:]).max() < 4.5 / math.sqrt(MANY)  # of neighbours
    assert follows(keys.uniforms(many[0], 50_000), 0, 1)


def test_below_is_even() -> None:
    counts = np.bincount(keys.below(keys.uniforms(jax.random.key(1), 60_000), 6), minlength=6)
    assert counts.size == 6 and stats.chisquare(counts).pvalue > LEAST
    assert int(keys.below(jnp.float32(1 - 2**-24), 30_001)) == 30_000


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 0.7), (3 / 4, 4 / 3)), ((0.02, 1 / 3), (0.4, 2.5))])
def test_boxes(many: jax.Array, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """On an image so large that rounding does not show and that every first try fits."""
    side = 3_000
    box, fits = jax.vmap(lambda key: boxes.draw_box(key, side, side, scale, ratio))(many)
    top, left, height, width = (np.asarray(x, np.float64) for x in box)
    assert bool(fits.all())
    assert follows(height * width / side**2, *scale)
    assert follows(np.log(width / height), math.log(ratio[0]), math.log(ratio[1]))
    assert follows(top / (side - height), 0, 1) and follows(left / (side - width), 0, 1)


def test_the_first_try_that_fits_is_taken(many: jax.Array) -> None:
    """On a long image large areas are refused: the rest follows the same law given that it fits."""
    box, fits = jax.vmap(lambda key: boxes.draw_box(key, 1_000, 2_000, (0.2, 1.0), (0.5, 2.0)))(many)
    random = np.random.default_rng(0)
    area = random.uniform(0.2, 1.0, 200_000) * 2e6
    aspect = np.exp(random.uniform(math.log(0.5), math.log(2.0), 200_000))
    wide, high = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    kept = (wide <= 2_000) & (high <= 1_000)
    assert kept.mean() < 0.7
    found = np.asarray(box.height, np.float64)[np.asarray(fits)]
    assert stats.ks_2samp(found, high[kept]).pvalue > LEAST
    inside = (box.top + box.height <= 1_000) & (box.left + box.width <= 2_000) & (box.top >= 0) & (box.left >= 0)
    assert bool(jnp.all(inside | ~fits))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(40, 400, (0, 173, 40, 53)), (400, 40, (173, 0, 53, 40)), (40, 42, (0, 0, 40, 42))],
)
def test_what_never_fits_is_cut_from_the_middle(height: int, width: int, expected: tuple[int, ...]) -> None:
    """torchvision's rule, by hand: 40 · 4/3 ≈ 53 of 400 pixels, centred."""
    scale = (5.0, 5.0)  # no box is five times the image
    found = crop.draw_crop(jax.random.key(0), height, width, scale, (3 / 4, 4 / 3))
    assert tuple(int(x) for x in found) == expected


def test_padded_crops_take_every_place_alike(many: jax.Array) -> None:
    image = jnp.arange(1, 8 * 9 * 3 + 1, dtype=jnp.float32).reshape(8, 9, 3)
    crops = np.asarray(jax.vmap(lambda key: crop.random_padded_crop(key, image, 2))(many))
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    places = {padded[y : y + 8, x : x + 9].tobytes(): 5 * y + x for y in range(5) for x in range(5)}
    counts = np.bincount([places[crop.tobytes()] for crop in crops], minlength=25)
    assert stats.chisquare(counts).pvalue > LEAST


def test_erasing(many: jax.Array) -> None:
    """The share of images, the boxes' area, and the noise within."""
    image = jnp.full((60, 60, 3), 2.0)
    erased = np.asarray(jax.jit(jax.vmap(lambda key: erase.random_erasing(key, image, 0.25)))(many[:2_000]))
    hit = (erased != 2).any(-1)
    touched = hit.any((1, 2))
    assert stats.binomtest(int(touched.sum()), 2_000, 0.25).pvalue > LEAST
    area = hit[touched].mean((1, 2))
    assert area.min() > 0.018 and area.max() < 0.345 and abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.02
    rows, columns = hit[touched].any(2).sum(1), hit[touched].any(1).sum(1)
    np.testing.assert_array_equal(rows * columns, hit[touched].sum((1, 2)))  # a full rectangle
    assert follows(erased[hit].ravel()[::97], 0, 1)
    plain = erase.random_erasing(many[0], image, 1.0, fill=0.5)
    assert set(np.unique(plain).tolist()) == {0.5, 2.0}


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_the_share_is_betas(many: jax.Array, alpha: float) -> None:
    for draw in (
        functools.partial(mixing.draw_share, mixup=alpha, cutmix=0.0, switch=0.5),
        functools.partial(mixing.draw_share, mixup=0.0, cutmix=alpha, switch=0.5),
    ):
        lam, cuts = jax.vmap(draw)(many[:1_500])
        assert stats.kstest(np.asarray(lam), stats.beta(alpha, alpha).cdf).pvalue > LEAST
        assert bool(cuts.all()) == (draw.keywords["cutmix"] > 0)


def test_switching(many: jax.Array) -> None:
    lam, cuts = jax.vmap(lambda key: mixing.draw_share(key, 0.2, 3.0, 0.3))(many[:1_500])
    assert stats.binomtest(int(cuts.sum()), 1_500, 0.3).pvalue > LEAST
    assert stats.kstest(np.asarray(lam[cuts]), stats.beta(3, 3).cdf).pvalue > LEAST
    assert stats.kstest(np.asarray(lam[~cuts]), stats.beta(0.2, 0.2).cdf).pvalue > LEAST


def test_cuts_are_cutmixs(many: jax.Array) -> None:
    """Sides √(1 - λ), cut at the border; the share is what is left."""
    lam = jnp.linspace(0.0, 1.0, 500)
    box, kept = jax.vmap(lambda key, lam: mixing.draw_cut(key, lam, 50, 80))(many[:500], lam)
    taken = np.asarray(box)[..., 0]
    np.testing.assert_allclose(kept, 1 - taken.mean((1, 2)), atol=1e-6)
    side = np.sqrt(1 - np.asarray(lam))
    rows, columns = taken.any(2).sum(1), taken.any(1).sum(1)
    assert (rows <= 2 * (np.floor(50 * side + 1e-4) // 2)).all() and (
        columns <= 2 * (np.floor(80 * side + 1e-4) // 2)
    ).all()
    within = taken[:, 0].any(1) | taken[:, -1].any(1) | taken[:, :, 0].any(1) | taken[:, :, -1].any(1)
    full = ~within & (rows > 0)
    assert full.sum() > 50
    np.testing.assert_array_equal(rows[full], 2 * (np.floor(50 * side[full] + 1e-4) // 2))


def test_rotation_is_drawn_both_ways() -> None:
    """A single bright pixel tells the angle of each draw."""
    image = jnp.zeros((41, 41, 3)).at[20, 38].set(1.0)
    drawn = keys.example_keys(jax.random.key(3), jnp.arange(500))
    turn = jax.jit(jax.vmap(lambda key: random_affine(key, image, rotate=40.0, method="bilinear")))
    turned = np.asarray(turn(drawn))[..., 0]
    y, x = np.mgrid[:41, :41] - 20.0
    mass = turned.sum((1, 2))
    angle = np.degrees(np.arctan2((turned * y).sum((1, 2)) / mass, (turned * x).sum((1, 2)) / mass))
    assert follows(angle, -40, 40)


def test_jitter_draws_factors_and_order(many: jax.Array) -> None:
    """Brightness and saturation commute but for the cut at 1; on a dark grey image the factor is read off."""
    image = jnp.full((2, 2, 3), 0.25)
    jittered = jax.jit(jax.vmap(lambda key: color_jitter(key, image, brightness=0.4, saturation=0.3)))(many)
    assert follows(jittered[:, 0, 0, 0] / 0.25, 0.6, 1.4)
    assert color_jitter(many[0], image) is image
    halves = jnp.zeros((2, 2, 3)).at[0].set(1.0)  # contrast 0.5 … 1.5 and brightness 0 … 2 do not commute here
    lit = jax.jit(jax.vmap(lambda key: color_jitter(key, halves, brightness=1.0, contrast=0.5)))(many)
    dark = np.asarray(lit)[:, 1, 0, 0]  # brightness leaves black black: it is lifted by contrast alone
    drawn = np.asarray(jax.vmap(lambda key: keys.uniforms(keys.derive(key, 0), 4))(many))
    brightness, contrast = 2 * drawn[:, 0], 0.5 + drawn[:, 1]
    bright = np.minimum(brightness, 1)
    mean = np.floor(np.stack([255 * bright / 2, np.full(MANY, 127.5)]) + 0.5) / 255
    last, first = (np.clip(mean[n] * (1 - contrast), 0, 1) for n in (0, 1))
    first = np.clip(first * brightness, 0, 1)
    by_last, by_first = np.abs(dark - last) < 3e-3, np.abs(dark - first) < 3e-3
    assert (by_last | by_first).all()
    told = by_last != by_first
    assert told.sum() > 500 and stats.binomtest(int(by_first[told].sum()), int(told.sum()), 0.5).pvalue > LEAST
