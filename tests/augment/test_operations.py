"""Every operation against PIL, which rounds to 1/255, or against a closed form."""

import colorsys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.augment.pictures import as_float, pictures
from tlx.augment import color, crop, geometry, randaugment, tone
from tlx.errors import TlxError

EXACT, PIL_CUTS, PIL_ROUNDS_TWICE = 1e-3, 1.001, 1.6  # of 255; PIL cuts fractions off, and rounds its greyscale first
FACTORS = (0.0, 0.3, 1.0, 1.7)
PIXELWISE: dict[str, tuple[Callable[..., jax.Array], Callable[..., Image.Image], tuple[Any, ...], float]] = {
    "brightness": (color.adjust_brightness, lambda p, f: ImageEnhance.Brightness(p).enhance(f), FACTORS, PIL_CUTS),
    "contrast": (color.adjust_contrast, lambda p, f: ImageEnhance.Contrast(p).enhance(f), FACTORS, PIL_ROUNDS_TWICE),
    "saturation": (color.adjust_saturation, lambda p, f: ImageEnhance.Color(p).enhance(f), FACTORS, PIL_ROUNDS_TWICE),
    "sharpness": (tone.adjust_sharpness, lambda p, f: ImageEnhance.Sharpness(p).enhance(f), FACTORS, PIL_ROUNDS_TWICE),
    "greyscale": (lambda x, _: color.greyscale(x), lambda p, _: p.convert("L").convert("RGB"), (0,), 0.501),
    "invert": (lambda x, _: tone.invert(x), lambda p, _: ImageOps.invert(p), (0,), EXACT),
    "solarize": (tone.solarize, ImageOps.solarize, (0, 1, 64, 128, 200, 255, 256), EXACT),
    "posterize": (tone.posterize, ImageOps.posterize, (1, 2, 4, 7, 8), EXACT),
    "autocontrast": (lambda x, _: tone.autocontrast(x), lambda p, _: ImageOps.autocontrast(p), (0,), PIL_CUTS),
    "equalize": (lambda x, _: tone.equalize(x), lambda p, _: ImageOps.equalize(p), (0,), EXACT),
}


@pytest.mark.parametrize("name", PIXELWISE)
def test_pixelwise_as_pil(name: str) -> None:
    ours, pil, parameters, within = PIXELWISE[name]
    changed = jax.jit(ours)
    for picture in pictures():
        for parameter in parameters:
            expected = np.asarray(pil(Image.fromarray(picture), parameter), np.float32)
            found = np.asarray(changed(as_float(picture), parameter)) * 255
            np.testing.assert_allclose(found, expected, rtol=0, atol=within, err_msg=f"{name} {parameter}")


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.25, 0.5])
def test_hue_as_colorsys(shift: float) -> None:
    for picture in pictures():
        image = as_float(picture)[::5, ::5]
        hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3).tolist()]
        expected = np.asarray([colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv]).reshape(image.shape)
        np.testing.assert_allclose(jax.jit(color.adjust_hue)(image, shift), expected, atol=2e-5)


MAPS = {
    "shear_x": geometry.shear_x(0.27),
    "shear_y": geometry.shear_y(-0.21),
    "translate_x": geometry.translate_x(7),
    "translate_y": geometry.translate_y(-5),
    "rotate": geometry.rotate(23, 40, 52),
    "all": geometry.about_centre(40, 52, 12, 1.3, 9, 3, -4),
}


def decided(inverse: np.ndarray, method: str) -> np.ndarray:
    """Pixels whose point lies so far from a border that no rounding moves it to the other side, (height, width)."""
    y, x = np.meshgrid(np.arange(40) + 0.5, np.arange(52) + 0.5, indexing="ij")
    clear = np.ones((40, 52), bool)
    for row, side in zip(inverse.astype(np.float64), (52, 40)):
        point = row[0] * x + row[1] * y + row[2]
        border = np.round(point) if method == "nearest" else np.where(point < side / 2, 0, side)
        clear &= np.abs(point - border) > 2e-3  # PIL computes in sixteenths of a thousandth and sums them up
    return clear


@pytest.mark.parametrize("method", geometry.WARPS)
@pytest.mark.parametrize("name", MAPS)
def test_maps_as_pil(name: str, method: str) -> None:
    inverse = np.asarray(MAPS[name])
    clear = decided(inverse, method)
    assert clear.mean() > 0.95
    warp = jax.jit(geometry.warp, static_argnums=(2, 3))
    resample = Image.Resampling[method.upper()]
    for picture in pictures():
        pil = Image.fromarray(picture).transform(
            (52, 40), Image.Transform.AFFINE, inverse.ravel().tolist(), resample, fillcolor=(51, 51, 51)
        )
        found = np.asarray(warp(as_float(picture), inverse, method, 0.2)) * 255
        within = EXACT if method == "nearest" else PIL_CUTS
        np.testing.assert_allclose(found[clear], np.asarray(pil, np.float32)[clear], rtol=0, atol=within)


def test_rotation_turns_as_pil() -> None:
    picture = pictures()[0]
    found = np.asarray(jax.jit(geometry.warp)(as_float(picture), geometry.rotate(-31, 40, 52))) * 255
    apart = np.abs(found - np.asarray(Image.fromarray(picture).rotate(-31), np.float32)).max(-1)
    assert (apart > EXACT).mean() < 0.005


def test_the_centred_map_is_torchvisions() -> None:
    """T · C · R(a) · zoom · SHx · C⁻¹ in homogeneous coordinates, inverted by numpy (torchvision `affine`)."""
    degrees, zoom, shear, right, down = 17.0, 0.7, -11.0, 4.0, -6.0
    a, s = np.radians(degrees), np.radians(shear)
    move = np.array([[1, 0, 26 + right], [0, 1, 20 + down], [0, 0, 1]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    slant = np.array([[1, -np.tan(s), 0], [0, 1, 0], [0, 0, 1]])
    centre = np.array([[1, 0, -26], [0, 1, -20], [0, 0, 1]])
    expected = np.linalg.inv(move @ turn @ np.diag([zoom, zoom, 1]) @ slant @ centre)[:2]
    np.testing.assert_allclose(geometry.about_centre(40, 52, degrees, zoom, shear, right, down), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 52), (16, 12)])
def test_resized_crop_as_pil(size: tuple[int, int], method: str) -> None:
    cropped = jax.jit(crop.resized_crop, static_argnums=(5, 6))
    for picture in pictures():
        for top, left, height, width in ((3, 5, 20, 31), (0, 0, 40, 52), (1, 40, 9, 7), (39, 0, 1, 52)):
            box = (left, top, left + width, top + height)
            resized = Image.fromarray(picture).crop(box).resize(size[::-1], Image.Resampling[method.upper()])
            found = np.asarray(cropped(as_float(picture), top, left, height, width, size, method)) * 255
            np.testing.assert_allclose(found, np.asarray(resized, np.float32), rtol=0, atol=1.6)  # PIL rounds twice


def reference_randaugment(picture: Image.Image, name: str, magnitude: int, negative: bool) -> Image.Image:
    """torchvision's table, its arithmetic in PIL."""
    share = magnitude / 30
    sign = -1 if negative else 1
    width, height = picture.size

    def affine(*values: float) -> Image.Image:
        return picture.transform(picture.size, Image.Transform.AFFINE, values)

    across, along = (sign * float(int(150 / 331 * side * share)) for side in (width, height))
    made: dict[str, Callable[[], Image.Image]] = {
        "identity": lambda: picture,
        "shear_x": lambda: affine(1, sign * 0.3 * share, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, sign * 0.3 * share, 1, 0),
        "translate_x": lambda: affine(1, 0, -across, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, -along),
        "rotate": lambda: picture.rotate(sign * 30 * share),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(1 + sign * 0.9 * share),
        "color": lambda: ImageEnhance.Color(picture).enhance(1 + sign * 0.9 * share),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(1 + sign * 0.9 * share),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(1 + sign * 0.9 * share),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(magnitude / (30 / 4))),
        "solarize": lambda: ImageOps.solarize(picture, int(np.ceil(255 - 255 * share))),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }
    return made[name]()


@pytest.mark.parametrize(("magnitude", "negative"), [(9, False), (9, True), (27, False), (27, True)])
def test_randaugments_operations(magnitude: int, negative: bool) -> None:
    """All of them in one compiled function: what is drawn decides nothing but parameters."""
    applied = jax.jit(randaugment.apply)
    for picture in pictures():
        for index, name in enumerate(randaugment.TRANSFORMS):
            expected = reference_randaugment(Image.fromarray(picture), name, magnitude, negative)
            found = np.asarray(applied(as_float(picture), index, magnitude, negative)) * 255
            apart = np.abs(found - np.asarray(expected, np.float32)).max(-1) > PIL_ROUNDS_TWICE
            # A point on the border of two pixels may fall to either.
            assert apart.mean() <= (0.01 if name in randaugment.GEOMETRIC else 0), (name, apart.mean())


def test_refused_names() -> None:
    image = jnp.zeros((4, 4, 3))
    with pytest.raises(TlxError, match="warp is 'cubic'; tlx has nearest, bilinear"):
        geometry.warp(image, geometry.identity(), "cubic")
    with pytest.raises(TlxError, match="interpolation is 'nearest'; tlx has bilinear, bicubic"):
        crop.resized_crop(image, *jnp.asarray([0, 0, 4, 4]), (4, 4), "nearest")
