"""Sets of several tasks in one: a batch has the rows of their sets, and each task's labels with a mask."""

import numpy as np
import pytest

from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.joint import JointExamples, same_inputs
from tlx.data.task_plan import TaskPlan, TaskSampling, uniform

random = np.random.default_rng(0)


def texts(lengths: list[int], first: int, label: np.ndarray, tags: bool = False) -> Examples:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(first, first + offsets[-1], dtype=np.int32)
    token_fields = {"label": ids % 3, "label_mask": (ids % 2).astype(np.int32)} if tags else {}
    fields = {} if tags else {"label": label}
    return Examples(ids, ids * 0, offsets, fields, np.arange(len(lengths)) + first, -5, token_fields)


LENGTHS = {"reviews": [3, 5, 2, 4], "news": [6, 1, 3]}
GOOD = texts(LENGTHS["reviews"], 100, np.array([1, 0, 1, 1], np.int32))
SCORE = texts(LENGTHS["reviews"], 100, random.normal(size=(4, 1)).astype(np.float32))
TOPIC = texts(LENGTHS["news"], 500, np.array([2, 0, 1], np.int32))
TAGS = texts([4, 2], 900, np.zeros(0), tags=True)


def test_rows_and_labels_are_those_of_the_sets() -> None:
    joint = JointExamples([{"good": GOOD, "score": SCORE}, {"topic": TOPIC}, {"tags": TAGS}])
    assert len(joint) == 9 and joint.lengths.tolist() == [3, 5, 2, 4, 6, 1, 3, 4, 2]
    assert list(joint.lengths_by_part) == ["good+score", "topic", "tags"]
    rows = np.array([5, 1, -1, 7, 3, 4])
    batch = joint.take(rows, 8)
    for row, position in enumerate(rows):
        source = next((s, r) for s, r in ((GOOD, position), (TOPIC, position - 4), (TAGS, position - 7))
                      if 0 <= r < len(s)) if position >= 0 else None  # fmt: skip
        expected = source[0].take(np.array([source[1]]), 8) if source else GOOD.take(np.array([-1]), 8)
        for name in ("input_ids", "token_type_ids", "attention_mask", "example_id", "valid"):
            np.testing.assert_array_equal(batch[name][row], expected[name][0], err_msg=f"{name} {position}")
    assert (
        batch["label_good_mask"].tolist()
        == batch["label_score_mask"].tolist()
        == [False, True, False, False, True, False]
    )
    assert batch["label_topic_mask"].tolist() == [True, False, False, False, False, True]
    assert batch["label_good"][[1, 4]].tolist() == [0, 1] and batch["label_topic"][[0, 5]].tolist() == [0, 2]
    np.testing.assert_array_equal(batch["label_score"][[1, 4]], SCORE.fields["label"][[1, 3]])
    tags = TAGS.take(np.array([0]), 8)
    np.testing.assert_array_equal(batch["label_tags"][3], tags["label"][0])
    np.testing.assert_array_equal(batch["label_tags_mask"][3], tags["label_mask"][0].astype(bool))
    assert not batch["label_tags_mask"][[0, 1, 2, 4, 5]].any()


def part_of(examples: Examples, rows: list[int]) -> Examples:
    """The set with these rows alone."""
    tokens = np.concatenate([np.arange(*examples.offsets[[row, row + 1]]) for row in rows])
    return Examples(
        examples.ids[tokens], examples.types[tokens], np.concatenate([[0], np.cumsum(examples.lengths[rows])]),
        {name: values[rows] for name, values in examples.fields.items()}, examples.example_id[rows], -5,
        {name: values[tokens] for name, values in examples.token_fields.items()},
    )  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_rows_with_the_labels_of_some_tasks(packed: bool) -> None:
    """A row is there once, with the inputs that it has in any set, and a label of each task whose set has it."""
    good, score = part_of(GOOD, [0, 2]), part_of(SCORE, [1, 2, 3])
    tags = part_of(texts(LENGTHS["reviews"], 100, np.zeros(0), tags=True), [3])
    assert same_inputs(good, score) and not same_inputs(good, part_of(SCORE, [1, 3]))
    joint = JointExamples([{"topic": TOPIC}, {"good": good, "score": score, "tags": tags}])
    assert joint.lengths.tolist() == [6, 1, 3, 3, 5, 2, 4] and joint.example_id[3:].tolist() == [100, 101, 102, 103]
    order = np.array([4, 6, 3, 0, 5])
    rows = np.array([[4, 6, -1], [3, 0, 5]]) if packed else order
    batch = joint.take(rows, 16)
    whole = JointExamples([{"topic": TOPIC}, {"good": GOOD, "score": SCORE}]).take(rows, 16)
    for name in whole.keys() - {f"label_{task}{end}" for task in ("good", "score") for end in ("", "_mask")}:
        np.testing.assert_array_equal(batch[name], whole[name], err_msg=name)
    known = {"good": [0, 0, 1, 0, 1], "score": [1, 1, 0, 0, 1], "topic": [0, 0, 0, 1, 0]}
    for task, expected in known.items():
        mask, label = batch[f"label_{task}_mask"], batch[f"label_{task}"]
        chosen = (rows >= 0) if packed else slice(None)
        assert mask[chosen].astype(int).ravel().tolist() == expected
        np.testing.assert_array_equal(label[chosen][mask[chosen]], whole[f"label_{task}"][chosen][mask[chosen]])
    tokens = batch["label_tags_mask"].astype(bool)
    assert tokens.sum() == (tags.ids % 2).sum() > 0
    np.testing.assert_array_equal(batch["label_tags"][tokens], batch["input_ids"][tokens] % 3)


def test_texts_that_share_a_row() -> None:
    """Every token, label and mask of a packed batch is that of the text alone, whichever set it is of."""
    joint = JointExamples([{"good": GOOD, "score": SCORE}, {"topic": TOPIC}, {"tags": TAGS}])
    rows = np.array([[5, 1, -1], [-1, -1, -1], [7, 3, 8]])
    batch = joint.take(rows, 11)
    alone = joint.take(np.maximum(rows.ravel(), 0), 8)
    assert batch.keys() == {*alone, "segment_ids", "text_starts"} - {"attention_mask"}
    by_token = {name for name, values in alone.items() if values.shape[1:] == (8,)}
    assert by_token == {"input_ids", "token_type_ids", "attention_mask", "label_tags", "label_tags_mask"}
    used = np.zeros((3, 11), bool)
    for (row, text), position in np.ndenumerate(rows):
        number, length = 3 * row + text, int(joint.lengths[position])
        if position < 0:
            assert not any(batch[f"label_{task}_mask"][row, text] for task in ("good", "score", "topic"))
            continue
        start = batch["text_starts"][row, text]
        used[row, start : start + length] = True
        for name in batch.keys() & alone.keys():
            if name in by_token:
                found, expected = batch[name][row, start : start + length], alone[name][number, :length]
            else:
                found, expected = batch[name][row, text], alone[name][number]
            if name.startswith("label_") and not name.endswith("_mask"):  # it may be anything where it is not known
                known = alone[f"{name}_mask"][number]
                found, expected = (
                    values[known[:length]] if name in by_token else values * known for values in (found, expected)
                )
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {position}")
        assert set(batch["segment_ids"][row, start : start + length]) == {text + 1}
    assert (used == (batch["segment_ids"] > 0)).all()
    assert (batch["input_ids"][~used] == -5).all() and not batch["label_tags_mask"][~used].any()


def test_which_sets_have_the_same_inputs() -> None:
    assert same_inputs(GOOD, SCORE) and not same_inputs(GOOD, TOPIC)


def test_batches_of_the_plan() -> None:
    """Every step's labels are those of the tasks that the plan drew."""
    joint = JointExamples([{"good": GOOD, "score": SCORE}, {"topic": TOPIC}])
    plan = TaskPlan(joint.lengths_by_part, 4, 0, 20, TaskSampling(uniform(), "one_task"))
    for step in range(20):
        batch = Batches(joint, plan, 20)[step]
        reviews, topics = plan.counts(step)
        assert batch["label_good_mask"].sum() == batch["label_score_mask"].sum() == reviews
        assert batch["label_topic_mask"].sum() == topics and batch["valid"].all()
