"""Batches of images: what stands in them, whatever reads them, and what identifies a set."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise, smooth
from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.image_examples import ImageExamples
from tlx.data.lazy import Lazy
from tlx.data.plan import EvaluationPlan, TrainingPlan
from tlx.data.sources import load
from tlx.errors import TlxError
from tlx.recipes.data_facts import digest


class Corner:
    """Reads arrays: their upper left 2 × 3 pixels. Counts what it reads."""

    height, width = 2, 3

    def __init__(self) -> None:
        self.read: list[str] = []
        self.threads: set[int] = set()
        self.barrier: threading.Barrier | None = None

    def pixels(self, image: Any, where: str) -> np.ndarray:
        self.read.append(where)
        self.threads.add(threading.get_ident())
        if self.barrier:
            self.barrier.wait(timeout=20)
        return image[:2, :3]


IMAGES = noise((7, 4, 5, 3), 0)
LABEL = np.arange(7, dtype=np.int32) % 3


def test_take() -> None:
    examples = ImageExamples(IMAGES, Corner(), {"label": LABEL}, np.arange(7, dtype=np.int64) * 10)
    assert len(examples) == 7 and examples.lengths.tolist() == [1] * 7
    np.testing.assert_array_equal(examples.labels, LABEL)
    assert examples.words is None
    batch = examples.take(np.array([5, -1, 0, 5]), 4)
    assert set(batch) == {"pixel_values", "label", "example_id", "valid"}
    assert batch["pixel_values"].dtype == np.uint8
    np.testing.assert_array_equal(
        batch["pixel_values"], np.stack([IMAGES[5], np.zeros_like(IMAGES[0]), IMAGES[0], IMAGES[5]])[:, :2, :3]
    )
    assert batch["example_id"].tolist() == [50, -1, 0, 50] and batch["valid"].tolist() == [True, False, True, True]
    assert batch["label"][[0, 2, 3]].tolist() == [2, 0, 2]
    nothing = examples.take(np.array([-1, -1]), 4)
    assert not nothing["valid"].any() and not nothing["pixel_values"].any()


@pytest.mark.parametrize("multiple", [1, 4])
def test_batches_hold_each_image_once_an_epoch(multiple: int) -> None:
    examples = ImageExamples(list(IMAGES), Corner(), {"label": LABEL})
    for plan in (TrainingPlan(examples.lengths, 3, seed=1), EvaluationPlan(examples.lengths, 3)):
        batches = Batches(examples, plan, plan.steps_per_epoch, multiple)
        found = [batches[step] for step in range(len(batches))]
        ids = np.concatenate([batch["example_id"][batch["valid"]] for batch in found])
        assert sorted(ids) == list(range(7)) and len(found) == 3
        for batch in found:
            assert len(batch["valid"]) == (4 if multiple == 4 else 3)
            for row in np.flatnonzero(batch["valid"]):
                np.testing.assert_array_equal(batch["pixel_values"][row], IMAGES[batch["example_id"][row], :2, :3])
                assert batch["label"][row] == LABEL[batch["example_id"][row]]


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_for_any_number_of_threads(tmp_path: Path, threads: int, cache_bytes: int) -> None:
    """Files through the whole processor, beside one image at a time."""
    from tlx.pretrained.image_processor import ImageProcessor

    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 20, "width": 30}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    for number in range(9):
        Image.fromarray(smooth(40 + number, 60, number)).save(tmp_path / f"{number}.jpg")
    reader = ImageProcessor(tmp_path)
    files = load(f"folder:{tmp_path}").column("image")
    examples = ImageExamples(files, reader, threads=threads, cache_bytes=cache_bytes)
    rows = np.array([8, 3, -1, 3, 0, 7, 6, 5])
    for _ in range(2):
        found = examples.take(rows)["pixel_values"]
        for row, pixels in zip(rows, found, strict=True):
            alone = reader.pixels(tmp_path / f"{row}.jpg") if row >= 0 else np.zeros((20, 30, 3))
            np.testing.assert_array_equal(pixels, alone)


def test_threads_read_at_the_same_time() -> None:
    reader = Corner()
    reader.barrier = threading.Barrier(3)  # broken, so an error, unless three are read at once
    ImageExamples(IMAGES, reader, threads=3, cache_bytes=0).take(np.array([0, 1, 2]))
    assert len(reader.threads) == 3


@pytest.mark.parametrize(("cache_bytes", "reads"), [(7 * 2 * 3 * 3, 3), (7 * 2 * 3 * 3 - 1, 6), (0, 6)])
def test_pixels_are_kept_where_all_fit(cache_bytes: int, reads: int) -> None:
    reader = Corner()
    examples = ImageExamples(IMAGES, reader, cache_bytes=cache_bytes)
    first = examples.take(np.array([6, 1, 2]))["pixel_values"].copy()
    again = examples.take(np.array([6, 1, 2]))["pixel_values"]
    np.testing.assert_array_equal(again, first)
    again[:] = 0  # a batch is a copy: what is kept does not change with it
    assert len(reader.read) == reads
    np.testing.assert_array_equal(examples.take(np.array([6, 1, 2]))["pixel_values"], first)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    from tlx.pretrained.image_processor import ImageProcessor

    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor", "size": 4}')
    (tmp_path / "bad.png").write_bytes(b"no image")
    reader, rows = ImageProcessor(tmp_path), np.array([41, 7, 9])
    column: list[Any] = [noise((4, 4, 3), 0), b"no image", tmp_path / "bad.png"]
    examples = ImageExamples(Lazy(column.__getitem__, range(3)), reader, example_id=rows, name="tfds:x", threads=3)
    with pytest.raises(TlxError, match=r"^tfds:x, row 8 is not an image that Pillow can read"):
        examples.take(np.array([0, 1]))
    with pytest.raises(TlxError, match=r"^/.*bad.png is not an image that Pillow can read"):
        examples.take(np.array([2, 0]))


def test_digests(tmp_path: Path) -> None:
    """Another image, label or row: another digest; not another place, size or number of threads."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.fromarray(IMAGES[number]).save(tmp_path / folder / f"{number}.png")

    def of(folder: str, label: np.ndarray = LABEL[:3], rows: tuple[int, ...] = (0, 1, 2), **options: Any) -> str:
        files = [tmp_path / folder / f"{number}.png" for number in range(3)]
        return digest(ImageExamples(files, Corner(), {"label": label}, np.array(rows), **options))

    assert of("a") == of("b") == of("a", threads=7, cache_bytes=0)
    array = ImageExamples(IMAGES[:3], Corner(), {"label": LABEL[:3]})
    others = {of("a"), of("a", LABEL[1:4]), of("a", rows=(0, 1, 3)), digest(array)}
    Image.fromarray(IMAGES[5]).save(tmp_path / "a" / "1.png")
    assert len(others | {of("a")}) == 5
    assert digest(ImageExamples(list(IMAGES[:3]), Corner(), {"label": LABEL[:3]})) == digest(array)


def test_digests_of_texts_are_what_they_were() -> None:
    """A run goes on only with data of the digest that it began with, so its recipe is held: SHA-256 of these bytes."""
    ids, offsets = np.arange(6, dtype=np.int32), np.array([0, 2, 6], np.int64)
    examples = Examples(
        ids, ids * 0, offsets, {"label": np.array([1, 0], np.int32)}, np.array([4, 9]), 0, {"label_mask": ids % 2}
    )
    expected = hashlib.sha256(
        ids.tobytes() + offsets.tobytes() + np.array([4, 9]).tobytes() + np.array([1, 0], np.int32).tobytes()
        + (ids % 2).tobytes()
    ).hexdigest()[:16]  # fmt: skip
    assert digest(examples) == expected == "6a8f93a6a5a8c650"
