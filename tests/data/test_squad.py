"""Question answering files, the windows of long contexts, and the tokens of answers."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.recipes.questions import write_squad
from tlx.data.examples import Examples
from tlx.data.readers import READERS
from tlx.data.sources import load
from tlx.data.spans import answer_column, locate
from tlx.errors import TlxError
from tlx.pretrained.tokenizer import Tokenizer

CONTEXT = "a Lovely film, and the plot was grim"


def document(**changes: Any) -> dict[str, Any]:
    question = {"id": "q1", "question": "film", "answers": [{"text": "Lovely", "answer_start": 2}], **changes}
    question = {key: value for key, value in question.items() if value is not ...}
    return {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [question]}]}]}


def test_rows_of_both_versions(tmp_path: Path) -> None:
    content = document()
    content["data"].append(document(id="q2", is_impossible=True, answers=[], plausible_answers=[])["data"][0])
    (tmp_path / "a.json").write_text(json.dumps(content))
    table = load(f"squad:{tmp_path}/a.json")
    assert table.columns == {
        "id": ["q1", "q2"],
        "question": ["film", "film"],
        "context": [CONTEXT, CONTEXT],
        "answers": [{"text": ["Lovely"], "answer_start": [2]}, {"text": [], "answer_start": []}],
    }
    rows = [row for _, row in READERS["squad"].rows(str(tmp_path / "a.json"))]
    assert rows == [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]
    contexts = table.columns["context"]
    assert answer_column(table, "answers", contexts, may_be_empty=True) == [(("Lovely", 2),), ()]
    with pytest.raises(TlxError, match=r"row 2: the question has no answer .*null_threshold=0\.0"):
        answer_column(table, "answers", contexts, may_be_empty=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"a\.json: the key 'data' is missing"),
        ({"data": {}}, r"a\.json: 'data' is \{\}; expected a list"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]: the key 'context' is missing"),
        ({"data": [{"paragraphs": [3]}]}, r"paragraphs\[0\]: expected an object with 'context', found 3"),
        (document(id=...), r"qas\[0\]: the key 'id' is missing"),
        (document(id=7), r"'id' is 7; expected a text"),
        (document(question=" "), "'question' is ' '; expected a text that is not empty"),
        (document(answers=[{"text": "Lovely"}]), "question q1: the key 'answer_start' is missing"),
        (document(answers=[{"text": "lovely", "answer_start": 2}]), "is 'lovely', but at answer_start 2 .* 'Lovely'"),
        (document(answers=[{"text": "grim", "answer_start": 33}]), "is not within the context, which has 36 char"),
        (document(answers=[{"text": "Lovely", "answer_start": -1}]), "is not within the context"),
        (document(answers=[{"text": "Lovely", "answer_start": 2.0}]), "is 2.0; expected a whole number"),
        (document(answers=[{"text": "", "answer_start": 2}]), "an answer is ''; expected a text"),
        (document(is_impossible=True), "'is_impossible' is true, and it has 1 answers"),
        (document(is_impossible=False, answers=[]), "'is_impossible' is false, and it has 0 answers"),
        (document(is_impossible="no"), "'is_impossible' is 'no'; it is true or false"),
        ({"data": [*document()["data"], *document()["data"]]}, "the id 'q1' is there twice"),
        ({"data": [*document()["data"], *document(id="q2", answers=...)["data"]]}, "question q2 has no 'answers'"),
        ({"data": [document(question="\ud800")["data"][0]]}, "'question' holds half of a surrogate pair"),
        ({"data": []}, r"a\.json holds no rows"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(TlxError, match=message) as refused:
        load(f"squad:{tmp_path}/a.json")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"data": [], "data": []}', "says 'data' twice"), ("[]", "list where an object"), ('{"data": NaN}', "holds NaN")],
)
def test_json_is_strict(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(TlxError, match=message):
        load(f"squad:{tmp_path}/a.json")


def test_rows_of_a_data_set_have_answers_in_two_lists(tmp_path: Path) -> None:
    """As `datasets` writes SQuAD to JSON lines; a list of answers is read as well."""
    two = {"text": ["Lovely", "grim"], "answer_start": [2, 32]}
    one = [{"text": "Lovely", "answer_start": 2}, {"text": "grim", "answer_start": 32}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"answers": each}) + "\n" for each in (two, one)))
    table = load(f"jsonl:{tmp_path}/a.jsonl")
    first, second = answer_column(table, "answers", [CONTEXT] * 2, may_be_empty=False)
    assert first == second == (("Lovely", 2), ("grim", 32))
    with pytest.raises(TlxError, match="row 1: the answer is 'Lovely', but at answer_start 2 the context has 'xxxxxx'"):
        answer_column(table, "answers", ["x" * 40] * 2, may_be_empty=False)


def test_locate_is_the_smallest_run_of_tokens_around_the_answer() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        borders = np.cumsum(random.integers(1, 4, 2 * random.integers(1, 9)))
        chars = np.concatenate([np.full((2, 2), -1), borders.reshape(-1, 2), np.full((1, 2), -1)])
        start = random.integers(chars[2, 0], chars[-2, 1])  # also within a token, or between two
        stop = random.integers(start, chars[-2, 1]) + 1
        around = [
            (last - first, (first, last))
            for first in range(2, len(chars) - 1)
            for last in range(first, len(chars) - 1)
            if chars[first, 0] <= start and chars[last, 1] >= stop
        ]
        assert locate(chars, ("x" * int(stop - start), int(start))) == min(around)[1]
        assert locate(chars, ("x" * int(stop + 1 - start), int(start))) is None or stop < chars[-2, 1]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(tiny.write_checkpoint(tmp_path_factory.mktemp("checkpoint")), 16)


def test_windows_hold_the_whole_context_and_the_answers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Every token stands for its word of the context, neighbours overlap by the stride, labels are the answer."""
    table = load(f"squad:{write_squad(tmp_path / 'a.json', 40, 0, impossible=True)}")
    contexts = table.columns["context"]
    answers = answer_column(table, "answers", contexts, may_be_empty=True)
    examples = Examples.encode_spans(tokenizer, table.columns["question"], contexts, answers, stride=5)
    spans, vocabulary = examples.spans, (tokenizer.folder / "vocab.txt").read_text().split()
    assert spans is not None and spans.unreachable == 0 and max(np.diff(spans.windows)) >= 3
    assert examples.lengths.max() == 16 and len(examples) == spans.windows[-1]
    np.testing.assert_array_equal(np.repeat(np.arange(80), np.diff(spans.windows)), examples.example_id)
    for question, context in enumerate(contexts):
        covered: list[list[int]] = []
        for window in range(spans.windows[question], spans.windows[question + 1]):
            here = slice(examples.offsets[window], examples.offsets[window + 1])
            chars, label = spans.chars[here], examples.token_fields["label"][here]
            words = [context[start:stop] for start, stop in chars if start >= 0]
            assert words == [vocabulary[i] for i in examples.ids[here][chars[:, 0] >= 0]]
            assert vocabulary[examples.ids[here][1]] == table.columns["question"][question]
            covered.append([int(start) for start, _ in chars if start >= 0])
            assert label.sum(axis=0).tolist() == [1, 1]
            first, last = label.argmax(axis=0)
            held = [each for each in answers[question] if chars[chars[:, 0] >= 0][0, 0] <= each[1]]
            held = [(text, start) for text, start in held if chars.max() >= start + len(text)]
            if held:
                assert context[chars[first, 0] : chars[last, 1]] == held[0][0]
            else:
                assert first == last == 0
        starts = [sum(map(len, context.split(" ")[:i])) + i for i in range(len(context.split(" ")))]
        assert sorted({start for each in covered for start in each}) == starts
        assert all(len({*one} & {*next_}) == 5 for one, next_ in itertools.pairwise(covered))


def test_an_answer_that_no_window_holds_is_counted(tokenizer: Tokenizer) -> None:
    words = ["film"] * 30
    context = " ".join(words)
    answer = " ".join(words[:14])  # a window has room for 12
    examples = Examples.encode_spans(tokenizer, ["plot"], [context], [((answer, 0),)], stride=2)
    assert examples.spans is not None and examples.spans.unreachable == 1
    label = examples.token_fields["label"]
    assert label[examples.offsets[:-1]].all() and label.sum() == 2 * len(examples)


def test_a_question_is_never_cut(tokenizer: Tokenizer) -> None:
    """It is refused if its context has to be cut, and fits as a whole if the context is short."""
    question = " ".join(["film"] * 10)
    short = Examples.encode_spans(tokenizer, [question], ["a plot"], stride=4)
    assert len(short) == 1 and short.lengths.tolist() == [15]
    with pytest.raises(TlxError, match=r"leaves 3 of 16 tokens \(data\.max_length\) .* overlap by 4 \(data\.stride\)"):
        Examples.encode_spans(tokenizer, [question], ["a plot and a plot"], stride=4)
    with pytest.raises(TlxError, match=r"leaves 3 of 16 tokens .* overlap by 3"):  # windows would not move
        Examples.encode_spans(tokenizer, [question], ["a plot and a plot"], stride=3)
    assert len(Examples.encode_spans(tokenizer, [question], ["a plot and a plot"], stride=2)) == 3
    with pytest.raises(TlxError, match="leaves 0 of 16 tokens"):
        Examples.encode_spans(tokenizer, [question + " film" * 9], ["plot"], stride=0)
