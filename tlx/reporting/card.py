"""The model card of an exported folder (Mitchell et al. 2019), with Hugging Face's front matter."""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from tlx.errors import listed
from tlx.reporting.tables import markdown

MOST_LABELS, LONGEST = 100, 200  # the numbers of labels in the title and of characters in each text
MARKUP = re.compile(r"[\\`*\[\]~$]|(?<!\w)_|_(?!\w)")  # characters that Markdown interprets; tables escape `|`
PARTS = {
    "train": "train", "validation": "validation", "test": "test",
    "target": "target, without labels", "target_test": "test of the target",
}  # fmt: skip
MEASURED = ("validation", "test", "target_test")
SETTINGS = (
    *("seed", "head.kind", "head.pooling", "loss.label_smoothing", "loss.balanced", "params.rules"),
    *(f"optimizer.{name}" for name in ("learning_rate", "schedule", "warmup_steps", "warmup_fraction", "clip")),
    *("train.epochs", "train.batch_size", "data.max_length"),
)


def model_card(
    run: Mapping[str, Any],
    summary: Mapping[str, Any] | None,
    step: int,
    base_model: str | None = None,
    *,
    pipeline_tag: str,
    limits: str = "",
) -> str:
    """Returns the text of the model card, in Markdown.

    Args:
      run: the content of a run's `config.json`.
      summary: the content of its `summary.json`; None if the run has not ended.
      step: the step of the exported checkpoint.
      base_model: the hub id of the pretrained checkpoint, if known.
      pipeline_tag: the hub's name of the task.
      limits: a sentence about the truncation of inputs; "" if inputs are not truncated.
    """
    config, head = run["config"], run["heads"]["default"]
    checkpoint = _published(config["model"]["checkpoint"])
    front = {
        "library_name": "transformers",
        "pipeline_tag": pipeline_tag,
        "tags": ["tlx"],
    }
    pretrained = config["model"]["weights"] == "pretrained"
    if base_model and pretrained:
        front["base_model"] = base_model
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---", ""]
    labels = f" ({listed(map(plain, head['labels']), MOST_LABELS)})" if head["labels"] else ""
    what = f"{plain(head['kind'])}, {head['outputs']} outputs{labels}"
    name = plain(checkpoint.rpartition(":")[2])
    lines += [f"# {name}, {'fine-tuned' if pretrained else 'from random weights'}: {what}", ""]
    lines += [f"Step {step} of a run of tlx {plain(run['versions']['tlx'])} from {plain(checkpoint)}.", ""]
    lines += [*_data(config["data"], summary), *_metrics(summary), *_training(config, run)]
    return "\n".join([*lines, *_limits(limits, adapted=bool(config["data"].get("target")))])


def plain(value: Any, longest: int = LONGEST) -> str:
    """Returns a value as plain text on one line: HTML and Markdown are escaped, unprintable characters removed."""
    text = str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return MARKUP.sub(r"\\\g<0>", html.escape(text, quote=False))


def _published(spec: str) -> str:
    """A source without the folders of absolute paths, which mean nothing to readers of the card."""
    return re.sub(r"(^|:)/(?:[^/]+/)+", r"\1…/", spec)


def _data(data: Mapping[str, Any], summary: Mapping[str, Any] | None) -> list[str]:
    sizes = (summary or {}).get("examples", {})
    shared = (summary or {}).get("also_in_train", {})
    rows = []
    for part, title in PARTS.items():
        if (spec := data.get(part)) or part in sizes:
            specs = [spec or "", *(data.get("sources") or () if part == "train" else ())]
            given = plain(", ".join(map(_published, specs)))
            cells = (given or "split from train", str(sizes.get(part, "")), str(shared.get(part, "")))
            rows.append((title, *cells))
    return ["## Data", "", markdown(("split", "source", "examples", "of them also in train"), rows)]


def _metrics(summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return ["## Metrics", "", "The run had not ended when this was exported: nothing was measured on test.", ""]
    metrics = summary["metrics"]
    names = sorted({name.partition("/")[2] for name in metrics})
    parts = [part for part in MEASURED if any(name.startswith(part + "/") for name in metrics)]
    rows = [(plain(name), *(_figure(metrics.get(f"{part}/{name}")) for part in parts)) for name in names]
    titles = ("metric", *(PARTS[part] for part in parts))
    return ["## Metrics", "", markdown(titles, rows), f"Selected: {plain(summary['selection'])}.", ""]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _training(config: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in SETTINGS:
        value: Any = config
        for key in name.split("."):
            value = value[key]
        rows.append((f"`{name}`", plain(json.dumps(value, ensure_ascii=False), 2000)))
    for name, value in config.get("method", {}).items():
        rows.append((f"method.{plain(name)}", plain(json.dumps(value, ensure_ascii=False), 2000)))
    versions = plain(", ".join(f"{name} {version}" for name, version in run["versions"].items()))
    revision = plain(run["revision"])
    return ["## Training", "", markdown(("field", "value"), rows), f"Revision {revision}; {versions}.", ""]


def _limits(truncation: str, adapted: bool) -> list[str]:
    other = (
        "The model was adapted to one target domain, and only labels of the target can show whether it gained by that; "
        "no further domain or language was tried, and no"
        if adapted
        else "The figures hold for data like the test split; nothing else was tried: no other domain or language, no"
    )
    cut = f"{truncation}{' ' if truncation else ''}"
    return [
        "## Limits",
        "",
        f"One run of one seed: another seed gives other figures. {cut}{other} differences between groups of people.",
        "",
    ]
