"""The tools on a finished run: what they print, write and refuse."""

import csv
import io
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, recall_score

from tests import tiny
from tlx.cli import predict
from tlx.cli.doctor import gigaflops, unmet
from tlx.cli.main import main
from tlx.cli.predict import CHUNK, flat
from tlx.data import stream
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.runs import predictions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(rendered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a file that it has not seen."""
    folder = tmp_path_factory.mktemp("tools")
    config = tiny.config(tiny.write_checkpoint(folder / "checkpoint"), tiny.write_reviews(folder / "reviews.csv", 200))
    config.train.epochs, config.train.evaluate_every = 3.0, 3.0
    finetune.build(config, folder / "run").run(quiet=True)
    tiny.write_reviews(folder / "other.csv", CHUNK + 10, seed=1)
    return folder


def rows_in(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_file(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than a chunk; CSV to standard output and JSON lines to a file say the same, in the file's order, all columns
    kept; each row as if it were alone."""
    monkeypatch.setattr(predict, "TEXTS", CHUNK)
    main(["predict", f"{place}/run", "--input", f"{place}/other.csv"])
    found = rows_in(capsys.readouterr().out)
    given = rows_in((place / "other.csv").read_text())
    assert [{name: row[name] for name in given[0]} for row in found] == given
    main(["predict", f"{place}/run", "--input", f"{place}/other.csv", "--output", f"{tmp_path}/out.jsonl"])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == found
    last = given[-1]["text"]
    main(["predict", f"{place}/run", last])
    assert capsys.readouterr().out == f"{last}  {lines[-1]['predicted']}  {lines[-1]['tlx_score']:.1%}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.long
def test_predict_holds_one_chunk(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, passing on and writing ten times as many rows takes no more memory (without the model's part).

    Up to three chunks exist at a time, by chance: one is read ahead, one waits, one is written. 18,000 rows more would
    take megabytes.
    """
    trained = load_run(place / "run")
    monkeypatch.setattr(predict, "TEXTS", 256)
    answer = {"predicted": "a", "score": 0.5}
    monkeypatch.setattr(
        predictions, "rows_of_examples", lambda _, examples: [dict(answer) for _ in range(len(examples))]
    )

    def peak(rows: int) -> int:
        file = tiny.write_reviews(tmp_path / "many.csv", rows)
        tracemalloc.start()
        for _ in predict.predict_source(trained, str(file), str(tmp_path / "out.csv"), None):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tmp_path / "out.csv").read_text().count("\n") == rows + 1
        return most

    peak(500)  # imports
    assert peak(20_000) < peak(2_000) + 2**19


def test_predict_stream(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A chunk is answered before the next is read."""
    answered: list[int] = []

    def lines() -> Iterator[bytes]:
        for number in range(2 * CHUNK):
            if number == CHUNK + 1:
                answered.append(capsys.readouterr().out.count("\n"))
            yield json.dumps({"id": number, "text": "the film was great"}).encode() + b"\n"

    given = lines()
    readable = SimpleNamespace(readline=lambda most: next(given, b""))
    monkeypatch.setattr(stream.sys, "stdin", SimpleNamespace(buffer=readable))
    main(["predict", f"{place}/run", "--input", "-", "--format", "jsonl"])
    assert answered == [CHUNK]
    rest = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in rest] == list(range(CHUNK, 2 * CHUNK))


@pytest.mark.parametrize("words", [("--format", "tsv"), ("--format", "tsv", "--output", "OUT")])
def test_predict_reads_any_text_format_from_standard_input(
    words: tuple[str, ...], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A format that is read only is written as CSV, or in what the output's suffix says."""
    monkeypatch.setattr(stream.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"id\ttext\n1\tthe film\twas\n")))
    with pytest.raises(SystemExit):
        main(["predict", f"{place}/run", "--input", "-", "--format", "tsv"])
    assert "line 2" in capsys.readouterr().err
    monkeypatch.setattr(stream.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"id\ttext\n1\tthe, film\n")))
    out = tmp_path / "out.jsonl"
    main(["predict", f"{place}/run", "--input", "-", *(str(out) if word == "OUT" else word for word in words)])
    printed = capsys.readouterr().out
    if "OUT" in words:
        assert json.loads(out.read_text())["text"] == "the, film"
    else:
        assert printed.startswith('id,text,predicted,score\n1,"the, film",')


def test_predict_for_a_reader_that_has_enough(place: Path) -> None:
    """Standard input begins with a byte order mark, as spreadsheets write it; the reader leaves after a line."""
    command = [sys.executable, "-m", "tlx.cli.main", "predict", f"{place}/run", "--input", "-", "--format", "csv"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"\xef\xbb\xbftext\n" + b"the film was great\n" * 4 * CHUNK)
        process.stdin.close()
        assert process.stdout.readline() == b"text,predicted,score\n"
        process.stdout.close()
        assert process.wait(300) == 0 and b"Traceback" not in process.stderr.read()


def test_several_numbers_are_columns_of_a_csv() -> None:
    assert flat({"predicted": [1.0, 2.0]}) == {"predicted_0": 1.0, "predicted_1": 2.0}
    for answer in ({"predicted": ["a", "b"]}, {"predicted": []}, {"predicted": "a", "score": 0.5}, {"predicted": 1.0}):
        assert flat(answer) == answer


def test_evaluate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another file's metrics, by scikit-learn on what predict says of it; the run's own test set, as in its summary."""
    main(["predict", f"{place}/run", "--input", f"{place}/other.csv"])
    rows = rows_in(capsys.readouterr().out)
    labels, predictions = ([row[name] for row in rows] for name in ("label", "predicted"))
    main(["evaluate", f"{place}/run", "--data", f"csv:{place}/other.csv"])
    told = capsys.readouterr().out
    for name, value in {
        "accuracy": accuracy_score(labels, predictions),
        "macro_f1": f1_score(labels, predictions, average="macro"),
        "worst_class_accuracy": min(recall_score(labels, predictions, average=None)),
    }.items():
        assert any(name in line.split() and f"{value:.4f}" in line for line in told.splitlines()), (name, value)
    assert f"{CHUNK + 10} examples" in told
    main(["evaluate", f"{place}/run"])
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert f"{summary['metrics']['test/accuracy']:.4f}" in capsys.readouterr().out


def test_the_run_directory_holds_pictures_and_figures_of_each_class(place: Path) -> None:
    for name in ("curves", "confusion_test", "reliability_test"):
        with Image.open(place / "run" / "plots" / f"{name}.png") as drawn:
            assert drawn.format == "PNG" and min(drawn.size) > 300 and len(drawn.convert("RGB").getcolors(10**6)) > 10
    with np.load(place / "run" / "predictions" / "test.npz") as saved:
        labels, predictions = saved["labels"], saved["predictions"].argmax(-1)
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert [row["name"] for row in summary["classes"]["test"]] == ["bad", "good"]
    recalls = recall_score(labels, predictions, average=None)
    assert [row["recall"] for row in summary["classes"]["test"]] == pytest.approx(list(recalls))


def test_export_card(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice: an export with its card is replaced."""
    for _ in range(2):
        main(["export", f"{place}/run", "--to", f"{tmp_path}/model"])
    assert "AutoModelForSequenceClassification.from_pretrained" in capsys.readouterr().out
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-classification"
    summary = json.loads((place / "run" / "summary.json").read_text())
    for name, value in summary["metrics"].items():
        assert f"{value:.4f}" in card.text, name
    for size in summary["examples"].values():
        assert f"| {size} |" in card.text
    assert "csv:…/reviews.csv" in card.text and str(place) not in card.text and "truncated to 16 tokens" in card.text


def test_inspect(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = "params.rules=(('backbone/embeddings/.*', 'frozen'),)"
    overrides = [f"data.train=csv:{place}/reviews.csv", f"model.checkpoint={place}/checkpoint", "data.max_length=16"]
    main(["inspect", "configs/text_file.py", rules, "--full", *overrides, "data.packing=off"])
    told = capsys.readouterr().out
    lines = {words[1]: words for line in told.splitlines() if len(words := line.split()) > 8 and "/" in words[1]}
    assert lines["backbone/encoder/layer/1/output/dense/kernel"][3::2] == [
        "48x32",
        "float32",
        "default",
        "1",
        "0.01",
        "6,144",
    ]
    assert lines["backbone/embeddings/word_embeddings/embedding"][7:12:2] == ["frozen", "0", "0"]
    assert lines["heads/default/output/bias"][9:12:2] == ["1", "0"]
    frozen = 32 * (32 + 2 + 32) + 64
    assert f"{frozen:,}" in told and "32 × 16 tokens" in told  # the longest has 13, and runs padded


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlx.cli.doctor.gigaflops", lambda: 1.0)
    main(["doctor"])
    told = capsys.readouterr().out
    assert "cpu 0" in told and "jaxlib" in told and "'tlx[tpu]'" in told and "compiled steps" in told


@pytest.mark.parametrize("error", [RuntimeError("no backend 'tpu'.\nmore"), AssertionError()])
def test_doctor_without_a_device(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices() -> None:
        raise error

    monkeypatch.setattr("jax.devices", devices)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2 and "tlx: JAX has no device with JAX_PLATFORMS=" in capsys.readouterr().err


def test_unmet_requirements() -> None:
    given = ["numpy>=1", "numpy<1", "tlx-no-such>=1", "tlx-no-such ; extra == 'x'", "no-such ; sys_platform == 'none'"]
    assert unmet(given) == [f"numpy is {version('numpy')}, needed <1", "tlx-no-such is missing"]
    assert gigaflops(0.01, 64) > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", '{"text": "a"}\n{"text": \n', "in.jsonl, line 2 is not JSON"),
        ("in.jsonl", '{"text": "a"}\n[1]\n', "in.jsonl, line 2 is '[1]'; expected an object"),
        ("in.jsonl", '{"words": "a"}\n', "line 1: there is no column 'text'; there is words"),
        ("in.csv", "text\ngood\n  \n", "line 3: the text in 'text' is empty"),
        ("in.csv", "text,id\ngood\n", "line 2: 1 fields where the header has 2"),
        ("in.csv", "text,id,id\ngood,1,2\n", "two columns have the same name in its header text, id, id"),
        ("in.csv", b"text\ngood\ngr\xe9at\n", "in.csv is not UTF-8 (line 3, byte 12: "),
        (
            "in.jsonl",
            '{"text": "a"}\n{"text": "b", "id": 1}\n',
            "line 2: a CSV has the same columns in every row; id",
        ),
        (
            "in.jsonl",
            '{"text": "a", "id": 1}\n{"text": "b"}\n',
            "line 2: a CSV has the same columns in every row; id",
        ),
        ("in.jsonl", '{"text": "a \\ud800"}\n', "line 1 holds half of a surrogate pair"),
        (
            "in.txt",
            "good\n",
            "the format 'txt' is not one of csv, tsv, jsonl, conll, npz, squad; give the file that suffix, or --format",
        ),
    ],
)
def test_bad_files_leave_nothing(
    name: str, content: str | bytes, message: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as ended:
        main(["predict", f"{place}/run", "--input", f"{tmp_path}/{name}", "--output", f"{tmp_path}/out.csv"])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "RUN"], "takes either texts or --input FILE"),
        (["predict", "RUN", "a", "--input", "b.csv"], "takes either texts or --input FILE"),
        (["predict", "RUN", "a", "--output", "b.csv"], "--output and --format need --input FILE"),
        (["predict", "RUN", "--input", "/no/file.csv"], "there is no file /no/file.csv"),
        (["predict", "RUN", "--input", "-"], "name it with --format"),
        (["predict", "RUN", "--input", "-", "--format", "xml"], "--format is 'xml'; it is one of csv, tsv, jsonl"),
        (["predict", "RUN", "--input", "-", "--format", "npz"], "an archive is read from a file"),
        (["evaluate", "RUN", "--data", "csv:/no/file.csv"], "there is no file /no/file.csv"),
        (["evaluate", "/no/run"], "/no/run is no run directory"),
        (["inspect", "configs/nothing.py"], "there is no config file 'configs/nothing.py'"),
        (["inspect", "runs"], "there is no config file 'runs'; expected FILE.py[:ARGUMENT]."),
        (["inspect", "configs/text_file.py", "sead=1"], "the config has no field 'sead'"),
        (["export", "RUN", "--to", "tests"], "tests holds something else than an earlier export"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"{place}/run" if argument == "RUN" else argument for argument in arguments])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_evaluate_refuses_a_label_the_run_does_not_know(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.csv").write_text("text,label\ngood film,good\nodd film,odd\n")
    with pytest.raises(SystemExit):
        main(["evaluate", f"{place}/run", "--data", f"csv:{tmp_path}/odd.csv"])
    assert "row 2: the label 'odd' is not one of the training set's bad, good" in capsys.readouterr().err


def test_evaluate_refuses_changed_data(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (place / "reviews.csv").read_text()
    try:
        (place / "reviews.csv").write_text("".join(whole.splitlines(keepends=True)[:150]))
        with pytest.raises(SystemExit):
            main(["evaluate", f"{place}/run"])
    finally:
        (place / "reviews.csv").write_text(whole)
    assert re.search(r"run was started with another (test|validation) set than its config", capsys.readouterr().err)
