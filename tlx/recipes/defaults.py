"""Every field of a fine-tuning config, with its default. A study's config starts here and says what differs."""

import warnings
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from tlx.augment.settings import Augmentation
from tlx.errors import TlxError


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
    config.model.reinitialise = ()  # drawn anew though the checkpoint has them: "last:2", "pooler", or selectors
    config.model.drop_path_rate = placeholder(float)  # of stochastic depth, at the last block; None: none
    config.model.hidden_dropout_prob = placeholder(float)  # None: as the checkpoint says
    config.model.attention_probs_dropout_prob = placeholder(float)
    config.model.classifier_dropout = placeholder(float)
    config.model.image_size = placeholder(int)  # of the images, in pixels; None: the checkpoint's
    config.model.dtype = "float32"  # what to compute in: float32 or bfloat16; parameters stay float32

    config.data = ConfigDict()
    config.data.train = ""  # csv:PATH, tsv:, jsonl:, conll:, npz:, folder:PATH[@SPLIT], tfds:NAME[@SPLIT], builtin:NAME
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
    config.data.stride = placeholder(int)  # of tagging: tokens by which windows of longer sentences overlap; None: 1/4

    # Of training images: the settings of tlx/augment/operations.py, and how they are mixed (tlx/augment/settings.py).
    augment = Augmentation().to_dict()
    config.augment = ConfigDict(
        {name: placeholder(float) if augment[name] is None else augment[name] for name in augment}
    )
    config.augment.preset = "none"  # or "flip_crop", "inception", "randaugment", "deit"; the fields go before it

    config.head = ConfigDict()
    config.head.kind = "classification"  # or "multilabel", "regression", "tagging"
    config.head.pooling = "pooler"  # or "cls", "mean"
    config.head.standardise = True  # a regression learns in units of its targets' spread, about their mean

    config.method = ConfigDict()
    config.method.name = "finetune"  # of tlx/recipes/methods.py; a phase may have another

    config.loss = ConfigDict()
    config.loss.name = placeholder(str)  # of tlx/losses/by_name.py; None: the usual loss of the head's kind
    config.loss.label_smoothing = 0.0  # of classes and tags
    config.loss.class_weights = ()  # by class, in the order of the labels; of a multilabel head, of its yes
    config.loss.balanced = False  # class weights n / (classes · count) from the training split

    config.params = ConfigDict()
    config.params.rules = ()  # ordered (selector, group); "frozen" is a group; the rest is "default"
    # name -> multiplier of the rate, or learning_rate; weight_decay, optimizer, schedule
    config.params.groups = ConfigDict({"default": {"multiplier": 1.0, "weight_decay": 0.01}})
    config.params.freeze = (
        ""  # "backbone", "embeddings", "first:K", "norms", …, joined by commas: rules after the others
    )
    config.params.trainable = (
        ""  # the same parts, and "last:K", "biases", "heads": these and what is new; the rest is frozen
    )
    config.params.train = placeholder(str)  # earlier name of trainable
    config.params.multipliers = ()  # ordered (selector, factor of the rate)
    config.params.head_multiplier = 1.0  # of the heads' rate
    config.params.layer_decay = 1.0  # factor of the rate from a block to the one below
    config.params.layer_decay_convention = placeholder(str)  # "bert", "timm", "beit", "electra"; None: as the family
    config.params.layer_decay_floor = 0.0  # smallest factor of layer_decay (timm's min_scale)
    config.params.phases = ()  # what changes during the run (tlx/recipes/phases.py): dicts with start, in epochs
    config.params.unfreeze = ""  # or a usual course of phases: "gradual:EPOCHS", "lp_ft:EPOCHS", "fine_tune:EPOCHS"
    config.params.discriminative = ()  # rates (lowest, highest) from the embeddings to the head, in equal ratios

    config.lora = ConfigDict()  # with it the backbone is frozen but for what params.rules say (tlx/adapters/lora.py)
    config.lora.rank = 0  # of the adapters; 0: none
    config.lora.alpha = 8.0  # an adapter is scaled by alpha / rank
    config.lora.dropout = 0.0  # of what an adapter is given
    config.lora.rank_stabilised = False  # rsLoRA: alpha / sqrt(rank)
    config.lora.targets = ()  # ordered (selector, True, False or a rank) over kernels' paths; (): query and value
    config.lora.name = "lora"  # the adapter's parameters are at adapters/<name>

    config.features = ConfigDict()  # what a frozen part of the backbone gives, computed once (docs/howto_features.md)
    config.features.cache = "auto"  # or "memory", in memory; "disk"; "off". The middle two say why none are kept
    config.features.limit = 2 * 2**30  # bytes, of all splits together; beyond it none are kept
    config.features.folder = ""  # of "disk", shared by runs; "": tlx/features under the user's cache

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or another of tlx/optim/optimizers.py: "adafactor", "lamb", "lion", "sgd", …
    config.optimizer.learning_rate = 5e-5
    config.optimizer.schedule = "linear"  # or another of tlx/optim/schedules.py: "cosine", "one_cycle", "constant", …
    config.optimizer.warmup_steps = placeholder(int)  # None: warmup_fraction of the run
    config.optimizer.warmup_fraction = 0.1
    # Of the schedules that have them; None: the schedule's default.
    config.optimizer.final_fraction = placeholder(float)  # of the rate, below which it does not fall; 0
    config.optimizer.power = placeholder(float)  # of polynomial; 1
    config.optimizer.cycles = placeholder(int)  # of cosine_restarts; 1
    config.optimizer.cycle_length = placeholder(float)  # of a cycle, in lengths of the one before; 1
    config.optimizer.cycle_peak = placeholder(float)  # of a cycle, in peaks of the one before; 1
    config.optimizer.div_factor = placeholder(float)  # one_cycle begins at the rate / div_factor; 25
    config.optimizer.final_div_factor = placeholder(float)  # and ends at that / final_div_factor; 10,000
    config.optimizer.drop = placeholder(float)  # step and exponential: factor of the rate every drop_every steps; 0.1
    config.optimizer.drop_every = placeholder(int)  # steps; None: a third of the steps after the warm-up
    # Of the optimizers that have them; None: the optimizer's default.
    config.optimizer.momentum = placeholder(float)  # of sgd (0.9) and rmsprop (0)
    config.optimizer.nesterov = placeholder(bool)  # of sgd and rmsprop; False
    config.optimizer.b1 = placeholder(float)  # of the Adam family, lamb and lion; 0.9
    config.optimizer.b2 = placeholder(float)  # the same; 0.999, of lion 0.99
    config.optimizer.eps = placeholder(float)  # 1e-8; of lamb 1e-6, adagrad 1e-7, adafactor 1e-30; lion and sgd: none
    config.optimizer.decay_rate = placeholder(float)  # of squared gradients, of adafactor (0.8) and rmsprop (0.9)
    config.optimizer.min_dim_size_to_factor = placeholder(int)  # adafactor factors from this size on; 128
    config.optimizer.clipping_threshold = placeholder(float)  # of the RMS of an update of adafactor; 1; 0 for none
    config.optimizer.multiply_by_parameter_scale = placeholder(bool)  # of adafactor: relative rates; True
    config.optimizer.clip = 1.0  # largest global norm of the trainable gradient; 0 for none
    config.optimizer.clip_value = 0.0  # largest absolute value of its entries, clipped before the norm; 0 for none

    config.average = ConfigDict()  # of what learns; it is evaluated, selected by, predicted with and exported
    config.average.kind = "none"  # or "ema", "swa"
    config.average.decay = 0.999  # of ema, a step
    config.average.warmup = True  # of ema: decay min(decay, (1 + t) / (10 + t)) after step t
    config.average.start_fraction = 0.75  # of the run, after which swa begins
    config.average.every = placeholder(int)  # steps between what swa takes; None: an epoch
    config.average.recalibrate_batches = 100  # from which batch norm's statistics are computed anew, at most an epoch
    config.average.learning_rate = placeholder(float)  # constant from swa's start on; None: as the schedule says

    config.l2_sp = ConfigDict()  # part of the loss; leave weight_decay at 0 with it
    config.l2_sp.alpha = 0.0  # towards the checkpoint's values, of what learns and came with it
    config.l2_sp.beta = 0.0  # towards zero, of what is new

    config.sam = ConfigDict()
    config.sam.radius = 0.0  # of sharpness-aware minimisation, such as 0.05; 0 for none; a step costs two
    config.sam.adaptive = False  # in units of each weight; the radius is then about ten times larger

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
    # On how many devices (docs/devices.md). No number depends on it, and a run may go on with another.
    config.parallel.mode = "auto"  # of the training step: "jit" (what "auto" takes) or "pmap"
    config.parallel.data = -1  # devices, or groups of fsdp devices, that share a batch; -1: all
    config.parallel.fsdp = 1  # devices over which large parameters and their moments are cut; 1: none is
    config.parallel.rules = ()  # what fsdp cuts: ordered (selector, "large", "largest", "whole" or an axis); (): large
    config.parallel.coordinator = ""  # HOST:PORT of process 0; "auto": as the cluster says; "": one process
    config.parallel.num_processes = placeholder(int)  # with HOST:PORT
    config.parallel.process_id = placeholder(int)  # with HOST:PORT: which of them this is, from 0
    return config


# Earlier names of fields, kept for one version: what is written there is moved to the new name, with a warning.
RENAMED = {"params.train": "params.trainable"}
RENAMED_IN_PHASES = {"train": "trainable"}


def with_current_names(config: ConfigDict) -> ConfigDict:
    """The config, in which values under earlier names stand under today's; each is warned of.

    Raises:
      TlxError: both names have a value.
    """
    config = config.copy_and_resolve_references()
    for old, new in RENAMED.items():
        value = _get(config, old)
        if value is None:
            continue
        _warn(f"config.{old}", f"config.{new}")
        if value and _get(config, new):
            raise TlxError(f"config.{old} is the earlier name of config.{new}, and both are given; keep the latter.")
        _set(config, new, value or _get(config, new))
        _set(config, old, None)
    phases = []
    for phase in config.params.phases:
        for old, new in RENAMED_IN_PHASES.items():
            if old in phase:
                _warn(f"{old!r} in config.params.phases", f"{new!r}")
        phases.append({RENAMED_IN_PHASES.get(name, name): value for name, value in phase.items()})
    config.params.phases = tuple(phases)
    return config


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now called {new}; the earlier name goes with the next version.", FutureWarning, stacklevel=4
    )


def _get(config: ConfigDict, path: str) -> Any:
    section, _, name = path.rpartition(".")
    return config[section][name] if section else config[name]


def _set(config: ConfigDict, path: str, value: Any) -> None:
    section, _, name = path.rpartition(".")
    with config.ignore_type():
        (config[section] if section else config)[name] = value
