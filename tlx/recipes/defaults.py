"""Every field of a fine-tuning config with its default. A config file starts from these and sets what differs."""

import warnings
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from tlx.augment.settings import Augmentation
from tlx.errors import TlxError


def finetune() -> ConfigDict:
    """Returns the default config of `experiments/finetune.py`.

    Words in capitals in the comments stand for your own values. A list of pairs `(selector, value)` is ordered, and the
    first selector that matches a parameter's path decides; see `tlx.params.rules`.
    """
    config = ConfigDict()
    config.resume = "auto"  # "auto" continues the run in the workdir; "never" refuses a workdir that holds a run
    config.seed = 0  # seed of new parameters, dropout, augmentation and the order of the data

    config.model = ConfigDict()
    config.model.checkpoint = ""  # a folder, package:NAME/FOLDER, or a hub id
    config.model.weights = "pretrained"  # "pretrained", or "random": the same network with random weights
    # Parts that are initialized if the checkpoint does not have them: "pooler", or regexes on parameter paths.
    config.model.initialise = ()
    config.model.ignore = ()  # regexes on tensor names of the checkpoint that may stay unused
    # Parts that are initialized although the checkpoint has them: "last:K" (blocks), "pooler", or selectors.
    config.model.reinitialise = ()
    config.model.drop_path_rate = placeholder(float)  # stochastic depth: drop rate of the last block; None: none
    config.model.hidden_dropout_prob = placeholder(float)  # dropout rate; None: the checkpoint's
    config.model.attention_probs_dropout_prob = placeholder(float)  # dropout rate of attention; None: the checkpoint's
    config.model.classifier_dropout = placeholder(float)  # dropout rate before the head; None: the checkpoint's
    config.model.image_size = placeholder(int)  # height and width of the images in pixels; None: the checkpoint's
    config.model.dtype = "float32"  # dtype of the computation, "float32" or "bfloat16"; parameters stay float32

    config.data = ConfigDict()
    # Each set is csv:PATH, tsv:PATH, jsonl:PATH, conll:PATH, npz:PATH, folder:PATH[@SPLIT], tfds:NAME[@SPLIT] or
    # builtin:NAME.
    config.data.train = ""  # the training set
    config.data.validation = ""  # the validation set; "": validation_fraction of train is split off
    config.data.test = ""  # the test set; "": test_fraction of train is split off
    config.data.validation_fraction = 0.1  # share of train that becomes the validation set
    config.data.test_fraction = 0.0  # share of train that becomes the test set; 0: there is no test set
    config.data.split_seed = 0  # seed of these splits and of per_class
    config.data.per_class = 0  # number of training examples of each class, sampled with split_seed; 0: all
    config.data.group = placeholder(str)  # column whose equal values stay in the same split; None: the input itself
    config.data.text = "text"  # column of the texts; for tagging, each row is a list of words
    config.data.image = "image"  # column of the images
    config.data.pair = placeholder(str)  # column of the second text of a pair; None: single texts
    config.data.label = "label"  # column of the labels; regression and multilabel take several, joined by commas
    config.data.label_separator = "|"  # separates several labels within one column
    config.data.max_length = 128  # longest input in tokens; longer texts are truncated
    # Several texts share a row, so that all batches of a run have one shape (docs/packing.md): "on", "off", or "auto",
    # which packs where the backbone, the method and the data allow it.
    config.data.packing = "auto"
    # Tagging splits sentences above max_length into overlapping windows: overlap in tokens; None: max_length / 4.
    config.data.stride = placeholder(int)

    # Augmentation of training images: settings of tlx/augment/operations.py and of mixing (tlx/augment/settings.py).
    augment = Augmentation().to_dict()
    config.augment = ConfigDict(
        {name: placeholder(float) if augment[name] is None else augment[name] for name in augment}
    )
    # "none", "flip_crop", "inception", "randaugment" or "deit"; the other fields of augment override the preset.
    config.augment.preset = "none"

    config.head = ConfigDict()
    config.head.kind = "classification"  # "classification", "multilabel", "regression" or "tagging"
    config.head.pooling = "pooler"  # what the head reads: "pooler", "cls" (first token) or "mean" (of all tokens)
    config.head.standardise = True  # regression: targets are standardized by their training mean and deviation

    config.method = ConfigDict()
    config.method.name = "finetune"  # a name of METHODS in tlx/recipes/methods.py; each phase may set its own

    config.loss = ConfigDict()
    config.loss.name = placeholder(str)  # a loss of tlx/losses/by_name.py; None: the usual loss of the head's kind
    config.loss.label_smoothing = 0.0  # label smoothing of classification and tagging
    # A weight for each class in the order of the labels; for multilabel, the weights of the positive labels.
    config.loss.class_weights = ()
    config.loss.balanced = False  # sets class weights to n / (classes * count), counted on the training set

    config.params = ConfigDict()
    config.params.rules = ()  # (selector, group); the group "frozen" is not trained; no match: the group "default"
    # Settings of each group: multiplier (of the learning rate) or learning_rate, weight_decay, optimizer, schedule.
    config.params.groups = ConfigDict({"default": {"multiplier": 1.0, "weight_decay": 0.01}})
    # Parts to freeze, joined by commas: "backbone", "embeddings", "first:K", "norms", … They come after the rules.
    config.params.freeze = ""
    # Parts to train, joined by commas: the same, "last:K", "biases", "heads". The rest of the backbone is frozen.
    config.params.trainable = ""
    config.params.train = placeholder(str)  # deprecated name of trainable
    config.params.multipliers = ()  # (selector, factor of the learning rate); a path without a match has factor 1
    config.params.head_multiplier = 1.0  # factor of the learning rate of the heads
    config.params.layer_decay = 1.0  # factor of the learning rate from each block to the block below it
    config.params.layer_decay_convention = placeholder(str)  # "bert", "timm", "beit" or "electra"; None: the family's
    config.params.layer_decay_floor = 0.0  # smallest factor that layer_decay gives (min_scale in timm)
    config.params.phases = ()  # phases of training: dicts with start (in epochs), see tlx/recipes/phases.py
    config.params.unfreeze = ""  # a standard sequence of phases: "gradual:EPOCHS", "lp_ft:EPOCHS", "fine_tune:EPOCHS"
    # (lowest, highest) learning rate: rates grow geometrically from the embeddings to the head.
    config.params.discriminative = ()

    config.lora = ConfigDict()  # LoRA; it freezes the backbone's parameters that params.rules do not name
    config.lora.rank = 0  # rank of the adapters; 0: no LoRA
    config.lora.alpha = 8.0  # the adapters' output is scaled by alpha / rank
    config.lora.dropout = 0.0  # dropout rate of the adapters' input
    config.lora.rank_stabilised = False  # rsLoRA: scale by alpha / sqrt(rank) instead
    config.lora.targets = ()  # (selector of kernels, True, False or a rank); (): attention's queries and values
    config.lora.name = "lora"  # the parameters are at adapters/NAME

    config.features = ConfigDict()  # outputs of a frozen part of the backbone, computed once (docs/howto_features.md)
    # "auto" and "memory" keep them in memory, "disk" in a folder; "off" computes them in each step. "memory" and "disk"
    # print the reason when nothing can be cached.
    config.features.cache = "auto"
    config.features.limit = 2 * 2**30  # largest total size of all splits in bytes; above it, nothing is cached
    config.features.folder = ""  # folder for "disk", shared by runs; "": tlx/features in the user's cache folder

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # a name of tlx/optim/optimizers.py: "adafactor", "lamb", "lion", "sgd", …
    config.optimizer.learning_rate = 5e-5  # peak learning rate
    config.optimizer.schedule = "linear"  # a name of tlx/optim/schedules.py: "cosine", "one_cycle", "constant", …
    config.optimizer.warmup_steps = placeholder(int)  # number of warm-up steps; None: warmup_fraction decides
    config.optimizer.warmup_fraction = 0.1  # share of the run's steps that are warm-up
    # Settings of particular schedules. None is the schedule's default, which is given in parentheses.
    config.optimizer.final_fraction = placeholder(float)  # smallest rate after warm-up as a share of the peak (0)
    config.optimizer.power = placeholder(float)  # exponent of polynomial (1)
    config.optimizer.cycles = placeholder(int)  # number of cycles of cosine_restarts (1)
    config.optimizer.cycle_length = placeholder(float)  # length of a cycle relative to the cycle before it (1)
    config.optimizer.cycle_peak = placeholder(float)  # peak of a cycle relative to the cycle before it (1)
    config.optimizer.div_factor = placeholder(float)  # one_cycle: first rate = learning_rate / div_factor (25)
    config.optimizer.final_div_factor = placeholder(float)  # one_cycle: last rate = first rate / final_div_factor (1e4)
    config.optimizer.drop = placeholder(float)  # step, exponential: factor of the rate every drop_every steps (0.1)
    config.optimizer.drop_every = placeholder(int)  # number of steps (a third of the steps after warm-up)
    # Settings of particular optimizers. None is the optimizer's default, which is given in parentheses.
    config.optimizer.momentum = placeholder(float)  # sgd (0.9), rmsprop (0)
    config.optimizer.nesterov = placeholder(bool)  # sgd, rmsprop (False)
    config.optimizer.b1 = placeholder(float)  # the Adam family, lamb, lion (0.9)
    config.optimizer.b2 = placeholder(float)  # the Adam family, lamb (0.999), lion (0.99)
    config.optimizer.eps = placeholder(float)  # most (1e-8), lamb (1e-6), adagrad (1e-7), adafactor (1e-30)
    config.optimizer.decay_rate = placeholder(float)  # decay of squared gradients: adafactor (0.8), rmsprop (0.9)
    config.optimizer.min_dim_size_to_factor = placeholder(int)  # adafactor: smallest dimension that is factored (128)
    config.optimizer.clipping_threshold = placeholder(float)  # adafactor: largest RMS of an update (1); 0: no limit
    config.optimizer.multiply_by_parameter_scale = placeholder(bool)  # adafactor: relative learning rates (True)
    config.optimizer.clip = 1.0  # largest global norm of the trainable gradient; 0: no clipping
    config.optimizer.clip_value = 0.0  # largest absolute value of a gradient's entry, clipped before the norm; 0: none

    config.average = ConfigDict()  # average of the trainable parameters; evaluation, selection and export use it
    config.average.kind = "none"  # "none", "ema" or "swa"
    config.average.decay = 0.999  # ema: decay of each step
    config.average.warmup = True  # ema: the decay after step t is min(decay, (1 + t) / (10 + t))
    config.average.start_fraction = 0.75  # swa: share of the run after which averaging begins
    config.average.every = placeholder(int)  # swa: steps between two averaged parameters; None: one epoch
    config.average.recalibrate_batches = 100  # batches for the average's batch norm statistics, at most one epoch
    config.average.learning_rate = placeholder(float)  # swa: constant rate once averaging begins; None: the schedule's

    config.l2_sp = ConfigDict()  # L2-SP penalty in the loss; set weight_decay to 0 when you use it
    config.l2_sp.alpha = 0.0  # strength for pretrained parameters, towards the checkpoint's values
    config.l2_sp.beta = 0.0  # strength for new parameters, towards zero

    config.sam = ConfigDict()
    config.sam.radius = 0.0  # sharpness-aware minimization (0.05 is usual); 0: off; each step costs two gradients
    config.sam.adaptive = False  # ASAM: the radius is relative to each weight, and should be about ten times larger

    config.train = ConfigDict()
    config.train.epochs = 3.0  # length of the run; fractions are allowed
    config.train.batch_size = 32  # examples of a training step, over all devices
    config.train.accumulate = 1  # micro-batches of a batch, computed one after the other
    config.train.eval_batch_size = 64  # examples of a forward pass in evaluation
    config.train.evaluate_every = 1.0  # epochs between evaluations; each evaluation also saves a checkpoint
    config.train.log_every = 10  # steps between two lines of training metrics
    config.train.monitor = placeholder(str)  # metric that selects the best checkpoint; None: the default of head.kind
    config.train.patience = placeholder(int)  # evaluations without improvement that end the run; None: no early stop

    config.parallel = ConfigDict()  # devices (docs/devices.md); a run may be resumed on another number of devices
    config.parallel.mode = "auto"  # how the training step is compiled: "jit" ("auto" selects it) or "pmap"
    config.parallel.data = -1  # number of devices (or groups of fsdp devices) that share a batch; -1: all
    config.parallel.fsdp = 1  # number of devices over which large parameters and moments are sharded; 1: no sharding
    config.parallel.rules = ()  # (selector, "large", "largest", "whole" or an axis); a path without a match is "large"
    config.parallel.coordinator = ""  # HOST:PORT of process 0; "auto": the cluster's setting; "": a single process
    config.parallel.num_processes = placeholder(int)  # number of processes, together with HOST:PORT
    config.parallel.process_id = placeholder(int)  # index of this process from 0, together with HOST:PORT
    return config


# Deprecated names of fields, accepted for one version: their values are moved to the new name, with a warning.
RENAMED = {"params.train": "params.trainable"}
RENAMED_IN_PHASES = {"train": "trainable"}


def with_current_names(config: ConfigDict) -> ConfigDict:
    """Returns a copy of the config with values moved from deprecated names to current names.

    Each value that is moved causes a `FutureWarning`.

    Raises:
      TlxError: if both the deprecated and the current name have a value.
    """
    config = config.copy_and_resolve_references()
    for old, new in RENAMED.items():
        value = _get(config, old)
        if value is None:
            continue
        _warn(f"config.{old}", f"config.{new}")
        if value and _get(config, new):
            raise TlxError(f"config.{old} is the deprecated name of config.{new}, and both are set; keep the latter.")
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
        f"{old} is now called {new}; the old name will be removed in the next version.", FutureWarning, stacklevel=4
    )


def _get(config: ConfigDict, path: str) -> Any:
    section, _, name = path.rpartition(".")
    return config[section][name] if section else config[name]


def _set(config: ConfigDict, path: str, value: Any) -> None:
    section, _, name = path.rpartition(".")
    with config.ignore_type():
        (config[section] if section else config)[name] = value
