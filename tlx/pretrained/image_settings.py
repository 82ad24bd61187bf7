"""The settings in a checkpoint's `preprocessor_config.json`, checked and completed by transformers' defaults.

Supported are the processors of transformers 5 that resize, crop, rescale and normalize. A file that enables another
step is refused, because the results would differ.
"""

import dataclasses
from pathlib import Path
from typing import Any, NoReturn

from tlx.errors import TlxError, listed
from tlx.files.strict_json import read_json
from tlx.pretrained.formats.safe import inside

FILE = "preprocessor_config.json"
MOST = 10_000  # the most pixels along an edge
BILINEAR, BICUBIC = 2, 3  # Pillow's numbers of these filters; there are 0 to 5
HALF = (0.5, 0.5, 0.5)
_PLAIN = {
    "do_resize": True, "do_center_crop": False, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "do_convert_rgb": False, "default_to_square": True, "image_mean": HALF, "image_std": HALF,
}  # fmt: skip
_VIT = {**_PLAIN, "size": 224, "resample": BILINEAR}
_DEIT = {**_PLAIN, "size": 256, "resample": BICUBIC, "do_center_crop": True, "crop_size": 224}
_BIT = {
    **_PLAIN, "size": 224, "default_to_square": False, "resample": BICUBIC, "do_center_crop": True, "crop_size": 224,
    "image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711),
    "do_convert_rgb": True,
}  # fmt: skip
_CONVNEXT = {**_PLAIN, "size": 384, "default_to_square": False, "resample": BICUBIC, "crop_pct": 224 / 256}
# The prefix of a processor's class name -> its class attributes in transformers 5.
DEFAULTS: dict[str, dict[str, Any]] = {"ViT": _VIT, "DeiT": _DEIT, "Bit": _BIT, "ConvNext": _CONVNEXT}
CLASS_ENDS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
CLASSES = {name + end: name for name in DEFAULTS for end in CLASS_ENDS}
# Files of 2021 do not name a class; transformers then uses the class of the model's family.
OF_MODEL = {
    "vit": "ViT", "vit_mae": "ViT", "vit_msn": "ViT", "deit": "DeiT", "dinov2": "Bit", "resnet": "ConvNext",
    "convnext": "ConvNext",
}  # fmt: skip
EDGE = "shortest_edge"
Size = tuple[int, int] | int  # (height, width), or the shorter edge's length


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """Checked settings of an image processor.

    Attributes:
      resize: (height, width) in pixels, or the length of the shorter edge; None: images are not resized.
      resample: Pillow's number of the filter for resizing.
      crop: (height, width) of the centre crop; None: images are not cropped.
      size: (height, width) of the resulting images.
      convert_rgb: whether a transparent colour is replaced by white.
      rescale: the factor by which pixels are multiplied.
      mean: the mean of each channel, subtracted after rescaling.
      std: the standard deviation of each channel, by which the difference is divided.
    """

    resize: Size | None
    resample: int
    crop: tuple[int, int] | None
    size: tuple[int, int]
    convert_rgb: bool
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def kind_of(file: Path, config: dict[str, Any]) -> str:
    """Returns the prefix of the processor's class name, a key of `DEFAULTS`.

    If the file does not name the class, the model's family decides.

    Raises:
      TlxError: tlx does not support the class, or it is not known.
    """
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    if name is None:
        model_config = inside(file.parent, "config.json")
        content = read_json(model_config, "config") if model_config.exists() else {}
        if content.get("model_type") in OF_MODEL:
            return OF_MODEL[content["model_type"]]
        refuse(file, f"it names no image_processor_type; tlx knows {listed(name + CLASS_ENDS[0] for name in DEFAULTS)}")
    if not isinstance(name, str) or name not in CLASSES:
        refuse(file, f"it is for a {name!r:.100}; tlx knows {listed(name + CLASS_ENDS[0] for name in DEFAULTS)}")
    return CLASSES[name]


def parse_settings(file: Path, config: dict[str, Any]) -> ImageSettings:
    """Checks an image processor's config.

    Args:
      file: the config's file, for messages; the model's `config.json` is looked for in the same folder.
      config: the content of the file.

    Raises:
      TlxError: tlx does not support the class or a step; the resulting images would differ in size; a value has another
        type or is out of range.
    """
    kind = kind_of(file, config)
    values = {**DEFAULTS[kind], **config}
    steps = {name: _flag(file, name, value) for name, value in values.items() if name.startswith("do_")}
    if unknown := sorted(name for name, on in steps.items() if on and name not in _PLAIN):
        refuse(file, f"it asks for {listed(f'{name!r:.60}' for name in unknown)}, a step that tlx does not support")
    resize, crop = (_convnext if kind == "ConvNext" else _plain)(file, values, steps)
    size = crop or resize or _size(file, "size", values)
    if isinstance(size, int):
        refuse(file, f"it sets a {EDGE} of {size} and does not crop, so images come out in different sizes")
    resample = values["resample"] if steps["do_resize"] else BILINEAR
    if type(resample) is not int or not 0 <= resample <= 5:
        refuse(file, f"its resample is {resample!r:.100}; expected one of Pillow's filters, 0 to 5")
    return ImageSettings(
        resize, resample, crop, size, steps["do_convert_rgb"],
        _number(file, "rescale_factor", values["rescale_factor"]) if steps["do_rescale"] else 1.0,
        *(_channels(file, name, values[name]) for name in ("image_mean", "image_std")) if steps["do_normalize"]
        else ((0.0,) * 3, (1.0,) * 3),
    )  # fmt: skip


def at_size(file: Path, config: dict[str, Any], size: int) -> dict[str, Any]:
    """Returns the config for images of another height; crop and resize keep their proportion (rounded).

    Args:
      file: the config's file, for messages.
      config: the content of the file.
      size: the height of the resulting images in pixels.

    Raises:
      TlxError: the size is out of range, or the config neither resizes nor crops.
    """
    if type(size) is not int or not 1 <= size <= MOST:
        raise TlxError(f"an image size of {size!r} was asked for; expected a whole number from 1 to {MOST}.")
    old = parse_settings(file, config)

    def scaled(length: int) -> int:
        return round(length * size / old.size[0])

    if kind_of(file, config) == "ConvNext":
        return {**config, "size": {EDGE: size}}
    if old.resize is None and old.crop is None:
        refuse(file, f"it neither resizes nor crops, so images cannot be brought to a size of {size}")
    changed = dict(config)
    if old.crop is not None:
        changed["crop_size"] = {"height": size, "width": scaled(old.crop[1])}
    if isinstance(old.resize, int):
        changed["size"] = {EDGE: scaled(old.resize)}
    elif old.resize is not None:
        changed["size"] = {"height": scaled(old.resize[0]), "width": scaled(old.resize[1])}
    return changed


def _plain(file: Path, values: dict[str, Any], steps: dict[str, bool]) -> tuple[Size | None, tuple[int, int] | None]:
    """Returns the sizes to which images are resized and cropped."""
    crop = _size(file, "crop_size", values, square=True) if steps["do_center_crop"] else None
    if isinstance(crop, int):
        refuse(file, f"its crop_size is {values['crop_size']}; expected a height and a width")
    return _size(file, "size", values) if steps["do_resize"] else None, crop


def _convnext(file: Path, values: dict[str, Any], steps: dict[str, bool]) -> tuple[Size | None, tuple[int, int] | None]:
    """Returns the sizes to which ConvNext's processor resizes and crops images.

    For a size below 384, the shorter edge is resized to size / crop_pct and the image is cropped to the size; from 384
    on, the image is resized to a square without keeping its aspect ratio.
    """
    size = _size(file, "size", values)
    if not steps["do_resize"] or steps["do_center_crop"] or not isinstance(size, int):
        refuse(file, f"of a ConvNext's processor tlx knows do_resize with a size of one {EDGE}, and no do_center_crop")
    if size >= 384:
        return (size, size), None
    fraction = _number(file, "crop_pct", values["crop_pct"])
    if not 0.01 <= fraction <= 1:
        refuse(file, f"its crop_pct is {fraction}; expected a share up to 1")
    return int(size / fraction), (size, size)


def _size(file: Path, name: str, values: dict[str, Any], square: bool | None = None) -> Size:
    """Returns (height, width), or one number if it is the length of the shorter edge."""
    value = values.get(name)
    if type(value) is int:
        square = _flag(file, "default_to_square", values["default_to_square"]) if square is None else square
        value = {"height": value, "width": value} if square else {EDGE: value}
    if isinstance(value, list) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    lengths = {key: length for key, length in value.items() if length is not None} if isinstance(value, dict) else {}
    if set(lengths) not in ({"height", "width"}, {EDGE}):
        refuse(file, f"its {name} is {value!r:.100}; expected a whole number, a height and a width, or a {EDGE}")
    for length in lengths.values():
        if type(length) is not int or not 1 <= length <= MOST:
            refuse(file, f"its {name} is {value!r:.100}; expected whole numbers from 1 to {MOST}")
    return lengths[EDGE] if EDGE in lengths else (lengths["height"], lengths["width"])


def _channels(file: Path, name: str, value: Any) -> tuple[float, ...]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3:
        refuse(file, f"its {name} has {len(values)} numbers; expected one for each of three channels")
    numbers = tuple(_number(file, name, number) for number in values)
    if name == "image_std" and not all(numbers):
        refuse(file, f"its {name} is {values}; nothing can be divided by 0")
    return numbers


def _number(file: Path, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        refuse(file, f"its {name} is {value!r:.100}; expected a number below 1e9")
    return float(value)


def _flag(file: Path, name: str, value: Any) -> bool:
    if value is not None and type(value) is not bool:
        refuse(file, f"its {name} is {value!r:.100}; expected true or false")
    return bool(value)


def refuse(file: Path, reason: str) -> NoReturn:
    """Raises the error for settings that tlx cannot follow."""
    raise TlxError(f"{file} cannot be followed: {reason}.")
