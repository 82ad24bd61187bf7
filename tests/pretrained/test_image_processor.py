"""The image processor against transformers' own on Pillow, over real and odd images, and what it refuses."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise, odd_files, smooth
from tlx.errors import TlxError
from tlx.pretrained.image_processor import ImageProcessor

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
VIT = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 48, "width": 40}, "resample": 2,
    "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
DEIT = {
    **VIT, **IMAGENET, "image_processor_type": "DeiTImageProcessorFast", "size": {"height": 50, "width": 46},
    "do_center_crop": True, "crop_size": {"height": 43, "width": 40}, "resample": 3,
}  # fmt: skip
BIT = {
    "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 41}, "crop_size": {"height": 37, "width": 38}
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    **{f"vit {resample}": {**VIT, "resample": resample} for resample in range(6)},
    "vit of 2021": {
        "feature_extractor_type": "ViTFeatureExtractor", "size": 40, "resample": 2, "do_normalize": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    },
    "deit": DEIT,
    "deit of 2021": {
        **IMAGENET, "feature_extractor_type": "DeiTFeatureExtractor", "size": 50, "crop_size": 43, "resample": 3,
        "do_resize": True, "do_center_crop": True, "do_normalize": True,
    },
    "deit cropping more than there is": {**DEIT, "crop_size": {"height": 61, "width": 40}},
    "shortest edge": {**DEIT, "size": {"shortest_edge": 47}, "do_center_crop": True},
    "shortest edge, wide": {**VIT, "size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": [8, 64]},
    "bit": BIT,
    "convnext, cropped": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 45}},
    "no resize": {**VIT, "do_resize": False, "do_center_crop": True, "crop_size": {"height": 33, "width": 30}},
    "white behind transparency": {**VIT, "do_convert_rgb": True},
}  # fmt: skip


def write(folder: Path, settings: Any, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def expected(folder: Path, files: list[Path]) -> np.ndarray:
    """Each image through transformers: float32 (images, height, width, 3)."""
    from transformers import AutoImageProcessor
    from transformers.image_utils import load_image

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    values = [processor(load_image(str(file)), return_tensors="np")["pixel_values"][0] for file in files]
    return np.stack(values).transpose(0, 2, 3, 1)


def assert_equal(found: np.ndarray, theirs: np.ndarray, folder: Path) -> None:
    """To 1e-6; of values beyond 1, to that part of the largest."""
    assert found.shape == theirs.shape and found.dtype == np.float32, folder
    error = np.abs(found - theirs.astype(np.float64)).max(axis=(1, 2, 3))
    assert error.max() <= 1e-6 * max(1, np.abs(theirs).max() / 3), (folder, int(error.argmax()), error.max())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Path]]:
    """200 images or more as they are given to tlx, and a file of each for transformers."""
    folder = tmp_path_factory.mktemp("images")
    files = odd_files(folder)
    samples = Path(matplotlib.get_data_path()) / "sample_data"
    files += sorted([*samples.glob("*.png"), *samples.glob("*.jpg")])
    given: list[Any] = [file if number % 2 else file.read_bytes() for number, file in enumerate(files)]
    arrays = sample_arrays()
    random = np.random.default_rng(0)
    while len(files) + len(arrays) < 200:
        height, width = random.integers(1, 150, 2)
        arrays.append(smooth(height, width, len(arrays)) if len(arrays) % 2 else noise((height, width, 3), len(arrays)))
    for number, array in enumerate(arrays):
        files.append(folder / f"array_{number}.png")
        Image.fromarray(array).save(files[-1])
    return given + arrays, files


def sample_arrays() -> list[np.ndarray]:
    """Photographs of scikit-learn, and of data sets where they are at hand."""
    from sklearn.datasets import load_sample_images

    found = list(load_sample_images().images)
    for name in ("cifar10", "mnist", "mnist_m", "usps") if "TLX_DATA" in os.environ else ():
        found += list(np.load(Path(os.environ["TLX_DATA"]) / name / "dev.npz")["image"][:30])
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_as_transformers(tmp_path: Path, images: tuple[list[Any], list[Path]], name: str) -> None:
    given, files = images
    assert len(files) >= 200
    folder = write(tmp_path / "model", CONFIGS[name])
    processor = ImageProcessor(folder)
    theirs = expected(folder, files)
    assert theirs.shape[1:] == (processor.height, processor.width, 3)
    assert_equal(processor(given), theirs, folder)


@pytest.mark.parametrize(
    ("config", "height"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, 224),
        ({"image_processor_type": "DeiTImageProcessor"}, 224),
        ({"image_processor_type": "BitImageProcessorFast"}, 224),
        ({"image_processor_type": "ConvNextImageProcessor"}, 384),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 224}, 224),
        ({**VIT, "size": [30, 20]}, 30),
        ({**VIT, "do_normalize": False}, 48),
        ({**VIT, "do_rescale": False}, 48),
        ({**VIT, "do_rescale": False, "do_normalize": False}, 48),
        ({**VIT, "rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": [1, 0.5, 2]}, 48),
        ({**VIT, "do_center_crop": None, "crop_size": None, "do_pad": False, "note": "x"}, 48),
        ({**VIT, "do_resize": None, "size": None, "resample": None, "do_center_crop": True, "crop_size": 30}, 30),
        ({**BIT, "default_to_square": True, "size": 40, "do_convert_rgb": None}, 37),
        ({**VIT, "do_center_crop": False, "crop_size": 3}, 48),
    ],
)
def test_defaults_and_single_steps(tmp_path: Path, config: dict[str, Any], height: int) -> None:
    files = []
    for number, shape in enumerate([(300, 200), (31, 40), (224, 224)]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(smooth(*shape, number)).save(files[-1])
    folder = write(tmp_path / "model", config)
    processor = ImageProcessor(folder)
    assert processor.height == height
    assert_equal(processor(files), expected(folder, files), folder)


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "resnet"])
def test_a_file_that_names_no_class_goes_by_the_model(tmp_path: Path, model_type: str) -> None:
    folder = write(tmp_path / "model", {"image_std": [0.2, 0.3, 0.4]}, config={"model_type": model_type})
    Image.fromarray(smooth(90, 120, 0)).save(tmp_path / "a.png")
    assert_equal(ImageProcessor(folder)([tmp_path / "a.png"]), expected(folder, [tmp_path / "a.png"]), folder)


def test_a_processor_config_takes_precedence(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", VIT, processor_config={"image_processor": {**VIT, "size": 32}})
    Image.fromarray(smooth(90, 120, 0)).save(tmp_path / "a.png")
    assert_equal(ImageProcessor(folder)([tmp_path / "a.png"]), expected(folder, [tmp_path / "a.png"]), folder)
    write(folder, VIT, processor_config={"processor_class": "X"})
    assert ImageProcessor(folder).height == 48


def test_no_resize_takes_images_of_the_size_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {**VIT, "do_resize": False})
    Image.fromarray(smooth(48, 40, 0)).save(tmp_path / "a.png")
    assert_equal(ImageProcessor(folder)([tmp_path / "a.png"]), expected(folder, [tmp_path / "a.png"]), folder)
    with pytest.raises(TlxError, match=r"^set, row 2 has 40 × 48 pixels, and .* expected 48 × 40"):
        ImageProcessor(folder).pixels(smooth(40, 48, 0), "set, row 2")
    Image.fromarray(smooth(40, 48, 0)).save(tmp_path / "b.png")
    with pytest.raises(TlxError, match=r"^/.*b.png has 40 × 48 pixels"):
        ImageProcessor(folder).pixels(tmp_path / "b.png", "set, row 2")


@pytest.mark.parametrize("config", [VIT, DEIT, BIT, {**VIT, "do_rescale": False}, {**DEIT, "rescale_factor": 1 / 128}])
def test_scale_and_offset_over_all_values(tmp_path: Path, config: dict[str, Any]) -> None:
    """Against the formula in float64, (x · factor − mean) / deviation, for all 256 values of each channel."""
    processor = ImageProcessor(write(tmp_path / "model", config))
    values = np.arange(256)[:, None]
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    mean = np.array(config.get("image_mean", [0.48145466, 0.4578275, 0.40821073]))
    std = np.array(config.get("image_std", [0.26862954, 0.26130258, 0.27577711]))
    exact = (values * factor - mean) / std
    found = values.astype(np.float32) * processor.scale + processor.offset
    assert (found.dtype, processor.scale.shape, processor.offset.shape) == (np.float32, (3,), (3,))
    assert np.abs(found - exact).max() <= 1e-6 * max(1, np.abs(exact).max() / 3)


def test_pixels_are_bytes(tmp_path: Path) -> None:
    processor = ImageProcessor(write(tmp_path / "model", VIT))
    found = processor.pixels(smooth(90, 120, 0))
    assert found.dtype == np.uint8 and found.shape == (48, 40, 3)
    resized = Image.fromarray(smooth(90, 120, 0)).resize((40, 48), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(resized))
    assert processor([]).shape == (0, 48, 40, 3)


@pytest.mark.parametrize(
    ("config", "size", "said"),
    [
        ({**VIT, "size": 224}, 384, {"size": {"height": 384, "width": 384}}),
        ({**VIT, "size": {"height": 48, "width": 40}}, 30, {"size": {"height": 30, "width": 25}}),
        (
            {**DEIT, "size": 256, "crop_size": 224},
            384,
            {"size": {"height": 439, "width": 439}, "crop_size": {"height": 384, "width": 384}},
        ),
        (
            {**BIT, "size": {"shortest_edge": 256}, "crop_size": 224},
            112,
            {"size": {"shortest_edge": 128}, "crop_size": {"height": 112, "width": 112}},
        ),
        (CONFIGS["convnext, cropped"], 60, {"size": {"shortest_edge": 60}}),
        (CONFIGS["no resize"], 66, {"crop_size": {"height": 66, "width": 60}}),
    ],
)
def test_another_size_goes_with_an_export(tmp_path: Path, config: dict[str, Any], size: int, said: Any) -> None:
    folder = write(tmp_path / "model", config)
    processor = ImageProcessor(folder, size=size)
    assert processor.height == size
    (tmp_path / "out").mkdir()
    processor.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text()) == {**config, **said}
    Image.fromarray(smooth(500, 420, 0)).save(tmp_path / "a.png")
    theirs = expected(tmp_path / "out", [tmp_path / "a.png"])
    assert_equal(processor([tmp_path / "a.png"]), theirs, folder)
    assert_equal(ImageProcessor(tmp_path / "out")([tmp_path / "a.png"]), theirs, folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "what should be JSON is none"),
        ('{"size": 224, "size": 384}', "its JSON says 'size' twice"),
        ('{"rescale_factor": NaN}', "its JSON holds NaN"),
        ("[]", "its JSON is a list"),
        ({**VIT, "image_processor_type": "CLIPImageProcessor"}, "it is for a 'CLIPImageProcessor'; tlx knows ViTImage"),
        ({**VIT, "image_processor_type": ["ViTImageProcessor"]}, r"it is for a \['ViTImageProcessor'\]; tlx knows"),
        ({**VIT, "image_processor_type": "a\nb" * 999}, r"it is for a 'a\\nba\\nb"),
        ({**VIT, "do_\n" * 999: True}, r"it asks for 'do_\\ndo_"),
        ({"size": 224}, "it names no image_processor_type; tlx knows ViTImageProcessor, DeiTImageProcessor"),
        ({**VIT, "do_pad": True}, "it asks for 'do_pad', a step that tlx does not support"),
        (
            {**VIT, "do_flip_channel_order": True, "do_reduce_labels": True},
            "'do_flip_channel_order', 'do_reduce_labels'",
        ),
        ({**VIT, "do_resize": "yes"}, "its do_resize is 'yes'; expected true or false"),
        ({**VIT, "do_resize": 1}, "its do_resize is 1; expected true or false"),
        ({**VIT, "resample": 6}, "its resample is 6; expected one of Pillow's filters, 0 to 5"),
        ({**VIT, "resample": "bilinear"}, "its resample is 'bilinear'"),
        ({**VIT, "resample": True}, "its resample is True"),
        ({**VIT, "size": 0}, "its size is .*; expected whole numbers from 1 to 10000"),
        ({**VIT, "size": 10_001}, "its size is .*; expected whole numbers from 1 to 10000"),
        ({**VIT, "size": {"height": 10**12, "width": 3}}, "expected whole numbers from 1 to 10000"),
        ({**VIT, "size": {"height": 224.0, "width": 224}}, "expected whole numbers from 1 to 10000"),
        ({**VIT, "size": -5}, "expected whole numbers from 1 to 10000"),
        (
            {**VIT, "size": "224"},
            "its size is '224'; expected a whole number, a height and a width, or a shortest_edge",
        ),
        ({**VIT, "size": True}, "its size is True; expected a whole number"),
        ({**VIT, "size": {"height": 224}}, "expected a whole number, a height and a width"),
        ({**VIT, "size": {"shortest_edge": 224, "longest_edge": 300}}, "expected a whole number, a height"),
        ({**VIT, "size": {"max_height": 224, "max_width": 300}}, "expected a whole number, a height"),
        ({**VIT, "size": {"shortest_edge": 224}}, "shortest_edge of 224 and does not crop, so images come out in diff"),
        ({**VIT, "do_center_crop": True}, "its crop_size is None; expected"),
        ({**DEIT, "crop_size": {"shortest_edge": 9}}, "its crop_size is .*; expected a height and a width"),
        ({**DEIT, "crop_size": 20_000}, "its crop_size is .*; expected whole numbers from 1 to 10000"),
        ({**VIT, "image_mean": None}, "its image_mean is None; expected a number"),
        ({**VIT, "resample": None}, "its resample is None"),
        ({**VIT, "size": None}, "its size is None; expected a whole number"),
        ({**VIT, "rescale_factor": "1/255"}, "its rescale_factor is '1/255'; expected a number"),
        ({**VIT, "rescale_factor": 10**400}, "its rescale_factor is 1000.*; expected a number below 1e9"),
        ('{"image_processor_type": "ViTImageProcessor", "rescale_factor": 1e999}', "its rescale_factor is inf"),
        ({**VIT, "image_mean": [0.5]}, "its image_mean has 1 numbers; expected one for each of three channels"),
        ({**VIT, "image_mean": [0.5, None, 0.5]}, "its image_mean is None; expected a number"),
        ({**VIT, "image_std": [0.5, 0, 0.5]}, r"its image_std is \[0.5, 0, 0.5\]; nothing can be divided by 0"),
        ({**CONFIGS["convnext, cropped"], "crop_pct": 0}, "its crop_pct is 0.0; expected a share up to 1"),
        ({**CONFIGS["convnext, cropped"], "do_center_crop": True}, "of a ConvNext's processor tlx knows do_resize"),
        ({**CONFIGS["convnext, cropped"], "size": [3, 4]}, "of a ConvNext's processor tlx knows do_resize"),
    ],
)
def test_refused_configs(tmp_path: Path, config: Any, message: str) -> None:
    folder = write(tmp_path / "model", config)
    with pytest.raises(TlxError, match=message) as error:
        ImageProcessor(folder)
    assert str(folder / "preprocessor_config.json") in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_refused_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TlxError, match=r"empty holds no preprocessor_config.json"):
        ImageProcessor(tmp_path / "empty")
    write(tmp_path / "secret", VIT)
    (tmp_path / "empty" / "preprocessor_config.json").symlink_to("../secret/preprocessor_config.json")
    with pytest.raises(TlxError, match="is a link that leads out of its folder"):
        ImageProcessor(tmp_path / "empty")


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (VIT, 0, "an image size of 0 was asked for; expected a whole number from 1 to 10000"),
        (VIT, 10_001, "an image size of 10001 was asked for"),
        (VIT, 22.5, "an image size of 22.5 was asked for"),
        ({**VIT, "do_resize": False}, 96, "neither resizes nor crops, so images cannot be brought to a size of 96"),
        ({**DEIT, "size": 10_000, "crop_size": 10}, 20, "expected whole numbers from 1 to 10000"),
    ],
)
def test_refused_sizes(tmp_path: Path, config: dict[str, Any], size: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        ImageProcessor(write(tmp_path / "model", config), size=size)


def test_refused_images(tmp_path: Path) -> None:
    edge = ImageProcessor(write(tmp_path / "edge", {**BIT, "size": {"shortest_edge": 224}}))
    with pytest.raises(TlxError, match=r"^set, row 4 of 1 × 50000 pixels is too long for its width: .* 2508800000 pix"):
        edge.pixels(np.zeros((1, 50_000), np.uint8), "set, row 4")
    calls: list[Callable[[], Any]] = [lambda: edge([noise((4, 4, 3), 0), b"no image"]), lambda: edge.pixels(b"")]
    for call, message in zip(calls, ("image 2 is not an image that Pillow", "the image is empty"), strict=True):
        with pytest.raises(TlxError, match=message):
            call()
