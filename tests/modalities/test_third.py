"""A modality of its own is one class and one line in `MODALITIES`: vectors, trained, evaluated and predicted with."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tlx.cli.main import main
from tlx.data.examples import Examples, ExampleSet
from tlx.data.sources import Table
from tlx.errors import TlxError
from tlx.modalities import open as modalities
from tlx.modalities.api import Columns, InputSettings, Modality, Source, label_fields, source_of_rows, value_of
from tlx.models import model as models
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.config import BackboneConfig
from tlx.models.heads import PER_TEXT, Head, HeadSettings
from tlx.recipes import defaults, finetune
from tlx.recipes.trained import load_run


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Lists of numbers, as they are. name: said in the file `vectors.json` beside the checkpoint."""

    name: str

    plural: ClassVar[str] = "vectors"
    columns: ClassVar[Mapping[str, str | None]] = {"vector": "vector"}
    fields: ClassVar[tuple[str, ...]] = ("vectors",)
    has_lengths: ClassVar[bool] = False
    augments: ClassVar[bool] = False
    length_buckets: ClassVar[tuple[int, ...]] = (1,)

    @classmethod
    def open(cls, folder: Path, settings: InputSettings) -> Self:
        return cls((folder / "vectors.json").read_text())

    @property
    def preprocessor(self) -> None:
        return None

    @property
    def digest(self) -> str:
        return self.name

    def save(self, folder: Path) -> None:
        (folder / "vectors.json").write_text(self.name)

    def prepare(self, rows: Any, key: Any) -> tuple[dict[str, Any], Any]:
        return {"vectors": rows["vectors"]}, rows

    def training(self, head: Head) -> Any:
        return self.prepare

    def tokens(self, model: Any, batch: Any) -> int:
        return 1

    def group_keys(self, columns: Columns, table: Table) -> list[str]:
        return [str(value) for value in table.column(columns.inputs["vector"])]

    keys = group_keys

    def encode(
        self, columns: Columns, head: Head | None, table: Table, rows: np.ndarray | None = None, *, once: bool = False
    ) -> Examples:
        return self._examples(table.column(columns.inputs["vector"]), label_fields(columns, head, table), rows)

    def count_truncated(self, columns: Columns, table: Table, examples: ExampleSet) -> int:
        del columns, table, examples
        return 0

    def encode_inputs(self, inputs: Any, kind: str | None = None) -> Examples:
        return self._examples(inputs, {}, None)

    def _examples(self, given: Any, fields: Mapping[str, np.ndarray], rows: np.ndarray | None) -> Examples:
        vectors = np.array([np.asarray(vector, np.float32) for vector in given])
        one = np.zeros(len(vectors), np.int32)
        number = np.arange(len(vectors), dtype=np.int64) if rows is None else rows
        return Examples(one, one, np.arange(len(vectors) + 1), {"vectors": vectors, **fields}, number, 0)

    def read_arguments(self, words: Sequence[str], columns: Columns, kind: str) -> Sequence[Any]:
        return [[float(number) for number in word.split(",")] for word in words]

    def read_source(self, source: str, format: str | None) -> Source:
        return source_of_rows(source, format)

    def read_row(self, row: Any, place: str, columns: Columns, kind: str) -> Any:
        return value_of(row, columns.inputs["vector"], place)

    def pipeline_tag(self, kind: str) -> str:
        return "tabular-classification"

    def limits(self, kind: str) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class VectorConfig(BackboneConfig):
    model_type = "vectors"
    family = "vector"
    modality = "vector"

    size: int = 3
    hidden_size: int = 8
    num_attention_heads: int = 1
    num_hidden_layers: int = 1
    hidden_act: str = "gelu"
    initializer_range: float = 0.02

    @property
    def head_settings(self) -> HeadSettings:
        return HeadSettings(kinds=PER_TEXT, pooled_by="cls")


class VectorBackbone(Backbone):
    @nn.compact
    def __call__(
        self, vectors: jax.Array, *, deterministic: bool = True, frozen: Collection[str] = ()
    ) -> BackboneOutput:
        hidden = nn.gelu(nn.Dense(self.config.hidden_size, name="embeddings")(vectors))
        return BackboneOutput(hidden[:, None])

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        return {"vectors": jnp.zeros((1, config.size), jnp.float32)}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> None:
        return None


def config(folder: Path) -> Any:
    """Which of two coordinates is larger."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vectors", "size": 3}))
    (folder / "vectors.json").write_text("plain")
    points = np.random.default_rng(0).normal(size=(120, 3)).round(3)
    rows = [{"point": point.tolist(), "label": "first" if point[0] > point[1] else "second"} for point in points]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = defaults.finetune()
    made.model.checkpoint, made.model.weights = str(folder), "random"
    made.data.train, made.data.vector, made.data.test_fraction = f"jsonl:{folder}/rows.jsonl", "point", 0.2
    made.optimizer.learning_rate, made.train.epochs, made.train.batch_size = 0.05, 20.0, 24
    made.parallel.data = 1
    return made


@pytest.mark.long
@pytest.mark.slow
def test_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(modalities.MODALITIES, "vector", Vectors)
    monkeypatch.setitem(models.FAMILIES, "vectors", (VectorConfig, VectorBackbone))
    made, run = config(tmp_path / "checkpoint"), tmp_path / "run"
    summary = finetune.build(made, run).run(quiet=True)
    assert summary["metrics"]["test/accuracy"] > 0.9
    trained = load_run(run)
    reader: Modality = trained.inputs
    assert reader == Vectors("plain") and trained.columns.inputs == {"vector": "point"}
    capsys.readouterr()
    main(["predict", str(run), "2,-1,0", "0,1.5,0"])
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["first", "second"]
    (tmp_path / "new.jsonl").write_text('{"point": [0, 2, 1], "id": 7}\n{"point": [2, 0, 1], "id": 8}\n')
    main(["predict", str(run), "--input", str(tmp_path / "new.jsonl")])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["predicted"]) for row in found] == [(7, "second"), (8, "first")]
    main(["evaluate", str(run)])
    assert f"{summary['metrics']['test/accuracy']:.4f}" in capsys.readouterr().out
    (tmp_path / "odd.jsonl").write_text('{"text": "a film"}\n')
    with pytest.raises(SystemExit):
        main(["predict", str(run), "--input", str(tmp_path / "odd.jsonl")])
    assert "there is no column 'point'; there is text" in capsys.readouterr().err
    made.augment.flip = 0.5
    with pytest.raises(TlxError, match=r"config.augment is of images; this checkpoint takes vectors\."):
        finetune.build(made, tmp_path / "augmented")
