"""What a model card says, for runs of several kinds; the front matter as the hub reads it."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from tests import tiny
from tlx.reporting import card as cards
from tlx.reporting.tables import markdown

SUMMARY = {
    "examples": {"train": 80, "validation": 10, "test": 10},
    "also_in_train": {"validation": 1, "test": 0},
    "metrics": {"validation/accuracy": 0.9, "test/accuracy": 0.8},
    "selection": "step 3 of 4: the best validation/accuracy of the run's evaluations",
}


def run(kind: str = "classification", weights: str = "pretrained", rules: Any = ()) -> dict[str, Any]:
    config = tiny.config(Path("folder"), Path("reviews.csv"))
    config.model.weights, config.params.rules = weights, rules
    head = {"kind": kind, "outputs": 2, "labels": ["no: never", "yes #1"]}
    return {"config": config.to_dict(), "heads": {"default": head}, "versions": {"tlx": "0.1.0"}, "revision": None}


def model_card(*given: Any) -> str:
    return cards.model_card(*given, pipeline_tag="text-classification", limits="Texts are cut to 16 tokens.")


def test_front_matter() -> None:
    data = ModelCard(model_card(run(), SUMMARY, 3)).data
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("transformers", "text-classification", None)
    assert ModelCard(model_card(run(), SUMMARY, 3, "google-bert/bert-base-cased")).data.base_model == (
        "google-bert/bert-base-cased"
    )


def test_a_network_drawn_anew_has_no_base_model() -> None:
    card = ModelCard(model_card(run(weights="random"), SUMMARY, 3, "google-bert/bert-base-cased"))
    assert card.data.base_model is None and "from random weights" in card.text


def test_figures_and_limits() -> None:
    text = ModelCard(model_card(run(), SUMMARY, 3)).text
    assert "| accuracy | 0.9000 | 0.8000 |" in text and SUMMARY["selection"] in text
    assert "| validation | split from train | 10 | 1 |" in text
    assert "Texts are cut to 16 tokens. The figures hold" in text and "One run of one seed" in text
    assert "nothing was measured on test" in model_card(run(), None, 3)


def test_an_adapted_model() -> None:
    """The card names the target, the further sources, the method with its settings, and what was measured."""
    held = run()
    held["config"]["data"] |= {"target": "csv:/somewhere/else/pans.csv", "sources": ["csv:films.csv"]}
    held["config"]["method"] = {"name": "dann", "trade_off": 0.1}
    sizes = {"train": 80, "validation": 10, "target": 30, "target_test": 20}
    metrics = {"validation/accuracy": 0.9, "target_test/accuracy": 0.7, "target_test/f1": 0.6}
    text = ModelCard(model_card(held, {**SUMMARY, "examples": sizes, "metrics": metrics}, 3)).text
    assert "| target, without labels | csv:…/pans.csv | 30 |  |" in text and "reviews.csv, csv:films.csv | 80" in text
    assert "| metric | validation | test of the target |" in text and "| f1 | – | 0.6000 |" in text
    assert '| method.name | "dann" |' in text and "| method.trade_off | 0.1 |" in text
    assert "adapted to one target domain" in text and "no other domain" not in text


def test_a_bar_in_a_cell_is_no_border() -> None:
    assert markdown(("a", "b"), [("x|y", "z")]).splitlines()[-1] == r"| x\|y | z |"
    text = model_card(run(rules=(("backbone/(embeddings|pooler)/.*", "frozen"),)), SUMMARY, 3)
    assert r"(embeddings\|pooler)" in text


HOSTILE = (
    "<script>alert(1)</script>",
    "a\n---\nlicense: evil\n---\n# Heading",
    "a\u2028\r\nb | c \\| d",
    "![x](https://example.org/x.png) [click](javascript:x)",
    "`code` **bold** _it_ ~~gone~~ $x$ <!-- c",
    "\u202egnp.exe \ud83d \0",
    "&lt;b&gt;",
    "x" * 10_000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_others_stay_text(text: str) -> None:
    """By a Markdown reader that lets HTML through: what comes out is the text itself and no element of its making."""
    held = run()
    held["heads"]["default"]["labels"] = [text, "yes"]
    held["config"]["model"]["checkpoint"] = held["config"]["data"]["train"] = text
    held["config"]["params"]["rules"] = [[text, "frozen"]]
    summary = {**SUMMARY, "selection": text, "metrics": {f"test/{text}": 0.5}}
    written = model_card(held, summary, 3, text)
    written.encode()  # half a surrogate pair would be no UTF-8
    card, calm = ModelCard(written), ModelCard(model_card(run(), SUMMARY, 3, "x"))
    assert card.data.to_dict().keys() == calm.data.to_dict().keys() and card.data.base_model == text
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    made = [(token.type, token.tag) for token in reader.parse(card.text) if token.type != "inline"]
    inside = {child.type for token in reader.parse(card.text) for child in token.children or ()}
    assert inside <= {"text", "code_inline", "softbreak", "text_special"}
    assert {kind for kind, _ in made} == {kind for kind, _ in reader_kinds(reader, calm.text)}
    assert [tag for kind, tag in made if kind == "heading_open"] == ["h1", "h2", "h2", "h2", "h2"]
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    title = next(token for token in reader.parse(card.text) if token.type == "inline")
    assert shown[:150] in "".join(child.content for child in title.children or ())
    assert len(written) < 12_000 + len(text)


def reader_kinds(reader: MarkdownIt, text: str) -> list[tuple[str, str]]:
    return [(token.type, token.tag) for token in reader.parse(text) if token.type != "inline"]


def test_many_labels_are_counted() -> None:
    held = run()
    held["heads"]["default"]["labels"] = [f"class {i}" for i in range(5000)]
    assert "class 99 and 4900 more)" in model_card(held, SUMMARY, 3)
