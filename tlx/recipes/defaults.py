"""Every field of a fine-tuning config, with its default. A study's config starts here and says what differs."""

import dataclasses

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from tlx.augment.settings import Augmentation


def finetune() -> ConfigDict:
    """The config of `experiments/finetune.py`."""
    config = ConfigDict()
    config.resume = "auto"  # go on with the run in the workdir; "never" refuses a used one
    config.seed = 0  # of what is drawn anew, of dropout and of the order of data

    config.model = ConfigDict()
    config.model.checkpoint = ""  # a folder, package:NAME/FOLDER, or a hub id
    config.model.weights = "pretrained"  # or "random": the same network, drawn anew
    config.model.initialise = ()  # parts to draw anew where the checkpoint lacks them: "pooler", or a regex on paths
    config.model.ignore = ()  # regexes on tensors of the checkpoint that may be left over
    config.model.hidden_dropout_prob = placeholder(float)  # None: as the checkpoint says
    config.model.attention_probs_dropout_prob = placeholder(float)
    config.model.classifier_dropout = placeholder(float)
    config.model.image_size = placeholder(int)  # of the images, in pixels; None: the checkpoint's
    config.model.dtype = "float32"  # what to compute in: float32 or bfloat16; parameters stay float32

    config.data = ConfigDict()
    config.data.train = ""  # csv:PATH, tsv:, jsonl:, conll:, npz:, folder:, tfds:NAME[@SPLIT], builtin:colors or digits
    config.data.validation = ""  # the same; "" cuts it from train
    config.data.test = ""  # the same; "" cuts test_fraction from train, or goes without
    config.data.validation_fraction = 0.1
    config.data.test_fraction = 0.0
    config.data.split_seed = 0
    config.data.per_class = 0  # train on so many examples of each class, drawn by split_seed; 0: on all
    config.data.group = placeholder(str)  # column whose equal values stay on one side of a cut; None: the text itself
    config.data.text = "text"  # column; of words, one list a row, for tagging
    config.data.image = "image"  # column, of a checkpoint that takes images
    config.data.pair = placeholder(str)  # column of the second text of each row; None: there is none
    config.data.label = "label"  # column; of a regression or several labels also several, joined by commas
    config.data.label_separator = "|"  # between several labels in one column
    config.data.max_length = 128  # tokens

    config.augment = ConfigDict(dataclasses.asdict(Augmentation()))  # of training images (tlx/augment/settings.py)
    config.augment.preset = "none"  # or "flip_crop", "inception", "randaugment", "deit"; the fields go before it
    del config.augment.erase_fill
    config.augment.erase_fill = placeholder(float)  # None: noise

    config.head = ConfigDict()
    config.head.kind = "classification"  # or "multilabel", "regression", "tagging"
    config.head.pooling = "pooler"  # or "cls", "mean"
    config.head.standardise = True  # a regression learns in units of its targets' spread, about their mean

    config.loss = ConfigDict()
    config.loss.label_smoothing = 0.0  # of classes and tags
    config.loss.class_weights = ()  # by class, in the order of the labels; of a multilabel head, of its yes
    config.loss.balanced = False  # class weights n / (classes · count) from the training split

    config.params = ConfigDict()
    config.params.rules = ()  # ordered (selector, group); "frozen" is a group; the rest is "default"
    config.params.groups = ConfigDict({"default": {"multiplier": 1.0, "weight_decay": 0.01}})

    config.features = ConfigDict()  # what a frozen part of the backbone gives, computed once (docs/howto_features.md)
    config.features.cache = "auto"  # or "memory", in memory; "disk"; "off". The middle two say why none are kept
    config.features.limit = 2 * 2**30  # bytes, of all splits together; beyond it none are kept
    config.features.folder = ""  # of "disk", shared by runs; "": tlx/features under the user's cache

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "sgd"
    config.optimizer.learning_rate = 5e-5
    config.optimizer.schedule = "linear"  # or "cosine", "polynomial", "inverse_sqrt", "constant"
    config.optimizer.power = 1.0  # of the polynomial
    config.optimizer.final_fraction = 0.0  # of the rate, at the end
    config.optimizer.warmup_steps = placeholder(int)  # None: warmup_fraction of the run
    config.optimizer.warmup_fraction = 0.1
    config.optimizer.momentum = 0.9  # of sgd
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.clip = 1.0  # largest global norm of the trainable gradient; 0 for none

    config.train = ConfigDict()
    config.train.epochs = 3.0
    config.train.batch_size = 32
    config.train.accumulate = 1  # micro-batches that a batch is cut into, one after the other
    config.train.eval_batch_size = 64
    config.train.evaluate_every = 1.0  # epochs; it also saves then
    config.train.log_every = 10  # steps
    config.train.monitor = placeholder(str)  # None: as the kind of head says (tlx/evaluation/metrics.py)
    config.train.patience = placeholder(int)  # evaluations without a better one that end the run; None: never

    config.parallel = ConfigDict()
    config.parallel.data = -1  # local devices that share a batch; -1: all
    return config
