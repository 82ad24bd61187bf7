"""Odd checkpoints through what a user types: training and programs as processes, commands of `tlx` by their words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests import tiny
from tests.models.reference import THIRD_PARTY
from tlx.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).parent.parent.parent
UNTIED = ("bert", "distilbert", "electra", "roberta")
Tlx = Callable[..., tuple[int, str, str]]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
        env={**os.environ, "TLX_TRACEBACK": ""},
    )  # fmt: skip


@pytest.fixture
def tlx(capsys: pytest.CaptureFixture[str]) -> Tlx:
    """Runs a command: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def finetuned(checkpoint: Path, data: Path, workdir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return call(
        "experiments/finetune.py", "--config=configs/text_file.py", f"--workdir={workdir}",
        f"--config.data.train=csv:{data}", f"--config.model.checkpoint={checkpoint}", "--config.data.max_length=16",
        "--config.train.epochs=1.0", "--config.parallel.data=1", *more,
    )  # fmt: skip


def without_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def too_many(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("".join(f"more{i}\n" for i in range(20)))


def one_token_type(folder: Path) -> None:
    """In the config and in the table."""
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "type_vocab_size": 1}))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("token_type_embeddings.weight"))
    save_file({**tensors, name: tensors[name][:1]}, folder / "model.safetensors")


def empty(folder: Path) -> None:
    (folder / "vocab.txt").write_text("")


def pointer(folder: Path) -> None:
    (folder / "vocab.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def no_unknown(folder: Path) -> None:
    file = folder / "vocab.txt"
    file.write_text(file.read_text().replace("[UNK]\n", ""))


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (without_vocabulary, (), "vocab.txt is not there; copy the tokenizer's files from the checkpoint."),
        (too_many, (), "has 41 tokens and the checkpoint's embedding table 32 rows (vocab_size)"),
        (one_token_type, ("--config.data.pair=label",), "token type 1, and the checkpoint's table has 1 rows"),
        (empty, (), "has an empty vocabulary"),
        (pointer, (), "git lfs pull"),
        (no_unknown, (), "Missing [UNK] token"),
    ],
)
def test_a_tokenizer_that_does_not_fit(
    damage: Callable[[Path], None], more: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """One sentence, exit code 2, and no run directory."""
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint")
    data = tiny.write_reviews(tmp_path / "reviews.csv", 40)
    damage(checkpoint)
    ended = finetuned(checkpoint, data, tmp_path / "run", *more)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("tlx: ") and ended.stderr.count("\n") == 1 and message in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine-tuned on a frozen backbone."""
    folder = tmp_path_factory.mktemp("odd")
    checkpoint = tiny.write_checkpoint(folder / "checkpoint")
    data = tiny.write_reviews(folder / "reviews.csv", 60)
    ended = finetuned(checkpoint, data, folder / "run", "--config.params.freeze=backbone")
    assert ended.returncode == 0, ended.stderr
    return folder / "run"


def test_a_run_whose_vocabulary_is_gone(run: Path, tmp_path: Path, tlx: Tlx) -> None:
    """Every command that reads it says so."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    without_vocabulary(copy / "pretrained")
    for command in (("predict", copy, "a film"), ("export", copy, "--to", tmp_path / "export"), ("evaluate", copy)):
        code, out, err = tlx(*command)
        assert (code, out) == (2, "") and "vocab.txt is not there" in err and err.count("\n") == 1
    assert not (tmp_path / "export").exists()


def test_a_run_with_a_frozen_backbone_is_exported_whole(run: Path, tmp_path: Path, tlx: Tlx) -> None:
    """All that the checkpoint had, to the bit, and the head."""
    code, out, _ = tlx("export", run, "--to", tmp_path / "export")
    assert code == 0 and out.startswith(f"{tmp_path}/export: step ")
    before, after = (load_file(f / "model.safetensors") for f in (run.parent / "checkpoint", tmp_path / "export"))
    assert {name.removeprefix("bert.") for name in after} == {*before, "classifier.weight", "classifier.bias"}
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[f"bert.{name}"], tensor)


def test_a_part_of_the_tree_is_not_written(run: Path, tmp_path: Path) -> None:
    code = (
        "import tlx\n"
        f"loaded = tlx.load_pretrained({str(run.parent / 'checkpoint')!r}, heads=2, initialise='heads/.*')\n"
        "trainable, frozen = tlx.partition(loaded.params, [('heads/.*', 'default'), ('.*', 'frozen')])\n"
        f"tlx.save_pretrained({str(tmp_path / 'part')!r}, loaded, params=trainable)"
    )
    ended = call("-c", code)
    said = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1 and said.startswith("tlx.errors.TlxError: ") and "tlx.merge" in said
    assert "missing " in said and not (tmp_path / "part").exists()


def test_an_output_layer_that_differs_is_kept(tmp_path: Path) -> None:
    """In and out again: every tensor of the file, to the bit."""
    sources = {family: THIRD_PARTY / family / "masked_lm_untied" for family in UNTIED}
    copies = [f"tlx.save_pretrained('{tmp_path}/{name}', tlx.load_pretrained('{s}'))" for name, s in sources.items()]
    ended = call("-c", "\n".join(["import tlx", *copies]))
    assert ended.returncode == 0, ended.stderr
    for family, source in sources.items():
        before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / family))
        for name, tensor in before.items():
            if name not in ("cls.predictions.bias", "lm_head.bias"):  # read only where the layer is tied
                np.testing.assert_array_equal(after[name], tensor)


def test_one_text_is_one_answer(run: Path, tmp_path: Path, tlx: Tlx) -> None:
    """One in words, one row of a file, one in Python; what is no text is refused."""
    code, out, _ = tlx("predict", run, "a great film")
    assert code == 0 and out.startswith("a great film  ") and out.count("\n") == 1
    (tmp_path / "one.jsonl").write_text('{"text": "a great film"}\n')
    code, out, _ = tlx("predict", run, "--input", tmp_path / "one.jsonl")
    assert code == 0 and [json.loads(line)["text"] for line in out.splitlines()] == ["a great film"]
    (tmp_path / "letters.jsonl").write_text('{"text": ["a", "great", "film"]}\n')
    code, out, err = tlx("predict", run, "--input", tmp_path / "letters.jsonl")
    assert (code, out) == (2, "") and "a text is a string, so put it in quotes" in err
    program = f"import tlx; read = tlx.load_pretrained({str(run.parent / 'checkpoint')!r}).preprocessor.inputs; "
    ended = call("-c", program + "print(read('a great film')['input_ids'].shape); read([])")
    assert ended.stdout == "(1, 5)\n" and ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1] == "tlx.errors.TlxError: there are no texts; give at least one."


@pytest.mark.long
def test_one_image_is_one_answer(tmp_path: Path, tlx: Tlx) -> None:
    """One file, one line, whatever its size; what is no image is refused."""
    ended = call(
        "experiments/finetune.py", "--config=configs/digits.py", f"--workdir={tmp_path}/run",
        "--config.train.epochs=0.1", "--config.train.evaluate_every=0.1", "--config.parallel.data=1",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    code, out, _ = tlx("predict", tmp_path / "run", tmp_path / "one.png")
    assert code == 0 and out.startswith(f"{tmp_path}/one.png  ") and out.count("\n") == 1
    (tmp_path / "none.png").write_text("no image")
    code, out, err = tlx("predict", tmp_path / "run", tmp_path / "none.png")
    assert (code, out) == (2, "") and "is not an image that Pillow can read" in err
