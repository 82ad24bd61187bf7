"""Texts encoded in chunks: the tokens are those of each text by itself, and a large file takes little memory."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tlx.data import flat
from tlx.data.examples import Examples
from tlx.pretrained.tokenizer import Tokenizer

WORDS = ("good", "bad", "dull", "film", "plot", "unknown")


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    monkeypatch.setattr(flat, "CHUNK", 7)
    return Tokenizer(tiny.write_checkpoint(tmp_path / "checkpoint"), 9)


def texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 7, 20])
@pytest.mark.parametrize("paired", [False, True])
def test_tokens_of_each_text_by_itself(count: int, paired: bool, tokenizer: Tokenizer) -> None:
    first, second = texts(count, 0), texts(count, 1) if paired else None
    found = Examples.encode(tokenizer, first, second)
    library = tokenizer._tokenizer
    assert len(found) == count and found.offsets.dtype == np.int64
    assert found.ids.dtype == found.types.dtype == np.int32
    for row, text in enumerate(first):
        pair = None if second is None else second[row]
        expected = library(text, pair, truncation=True, max_length=9, return_token_type_ids=True)
        span = slice(found.offsets[row], found.offsets[row + 1])
        assert found.ids[span].tolist() == expected["input_ids"]
        assert found.types[span].tolist() == expected["token_type_ids"]
    whole = [library(text, None if second is None else second[row]) for row, text in enumerate(first)]
    longer = sum(len(encoding["input_ids"]) > 9 for encoding in whole)
    assert tokenizer.count_longer(first, second) == longer and (longer or count < 2)


def test_sentences_of_each_by_itself(tokenizer: Tokenizer) -> None:
    sentences = [text.split() for text in texts(30, 2)]
    tags = [np.arange(len(words), dtype=np.int32) - 1 for words in sentences]
    found = Examples.encode_words(tokenizer, sentences, tags, np.arange(30) * 3, stride=2)
    single = [
        Examples.encode_words(tokenizer, [words], [tag], np.array([row * 3]), stride=2)
        for row, (words, tag) in enumerate(zip(sentences, tags, strict=True))
    ]
    words = [one.words for one in single if one.words is not None]
    assert found.words is not None and found.words.windowed == sum(each.windowed for each in words) > 0
    for name in ("ids", "types", "example_id"):
        np.testing.assert_array_equal(getattr(found, name), np.concatenate([getattr(one, name) for one in single]))
    np.testing.assert_array_equal(found.lengths, np.concatenate([one.lengths for one in single]))
    for name, values in found.token_fields.items():
        np.testing.assert_array_equal(values, np.concatenate([one.token_fields[name] for one in single]))
    starts = np.cumsum([0, *(len(one.ids) for one in single)])
    tokens = [np.where(each.token < 0, -1, each.token + start) for each, start in zip(words, starts[:-1], strict=True)]
    np.testing.assert_array_equal(found.words.token, np.concatenate(tokens))


MEASURE = """
import sys, threading, time
from ml_collections import ConfigDict
from tlx.recipes import defaults, finetune
from tlx.recipes.datasets import load_datasets
from tlx.recipes.inputs import open_inputs
from tlx.pretrained.folder import resolve

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

config = defaults.finetune()
config.model.checkpoint, config.data.train, config.data.cache = sys.argv[1], "csv:" + sys.argv[2], sys.argv[3]
inputs = open_inputs(resolve(config.model.checkpoint), config)
before, peak, going = anonymous(), 0.0, True

def watch():
    global peak
    while going:
        peak = max(peak, anonymous())
        time.sleep(0.005)

thread = threading.Thread(target=watch)
thread.start()
datasets = load_datasets(config, inputs)
going = False
thread.join()
print(sum(len(examples) for examples in datasets.examples.values()), peak - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """As lists of Python the tokens of these rows took 443 MiB."""
    folder, file, rows = tiny.write_checkpoint(tmp_path / "checkpoint"), tmp_path / "large.csv", 60_000
    random = np.random.default_rng(0)
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        for row in range(rows):
            writer.writerow((f"{row} " + " ".join(random.choice(WORDS, 34)), row % 2))
    for _ in range(2):  # encoded, then read from what was kept
        command = [sys.executable, "-c", MEASURE, str(folder), str(file), str(tmp_path / "cache")]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        count, peak = found[-1].split()
        assert int(count) == rows and float(peak) < 100, found
    assert "are read from" in found[0]
