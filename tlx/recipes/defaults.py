"""Every field of a fine-tuning config with its default. A config file starts from these and sets what differs."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from tlx.augment.settings import Augmentation


def finetune() -> ConfigDict:
    """Returns the default config of `experiments/finetune.py`.

    Words in capitals in the comments stand for your own values. A list of pairs `(selector, value)` is ordered, and the
    first selector that matches a parameter's path decides; see `tlx.params.rules`.
    """
    config = ConfigDict()
    config.resume = "auto"  # "auto" continues the run in the workdir; "never" refuses a workdir that holds a run
    config.seed = 0  # seed of new parameters, dropout, augmentation and the order of the data
    config.model = _model()
    config.data = _data()
    config.augment = _augment()
    config.masking = _masking()
    config.head = _head()
    config.method = _method()
    config.loss = _loss()
    config.params = _params()
    config.lora = _lora()
    config.features = _features()
    config.optimizer = _optimizer()
    config.average = _average()
    config.l2_sp = _l2_sp()
    config.sam = _sam()
    config.train = _train()
    config.parallel = _parallel()
    return config


def multitask() -> ConfigDict:
    """Returns the default config of `experiments/multitask.py`: that of `finetune`, with tasks and their sampler."""
    config = finetune()
    # NAME: dict(data=…, head=…, loss=…), the fields in which a task differs from the config's data, head and loss;
    # metric=…, whose mean over tasks, "validation/joint", selects the checkpoint; weight=…, a factor of its loss.
    config.tasks = ConfigDict()
    config.single_task = ""  # NAME: only this task is trained, as a baseline of the run of all; "": all tasks
    # A folder with the finished run of each task alone, under the task's name, over which the summary gives the mean
    # relative gain; experiments/multitask.py trains those that are missing. "": no baselines.
    config.baselines = ""
    config.data.unlabelled = "leave_out"  # a row may have the labels of some tasks only
    config.method.name = "equal"  # a method of several tasks
    config.sampler = _sampler()
    return config


def _sampler() -> ConfigDict:
    """How the rows of a step are divided among tasks (tlx/data/task_plan.py)."""
    sampler = ConfigDict()
    sampler.law = "proportional"  # to the numbers of examples; "uniform", "temperature" or "annealed"
    sampler.batches = "mixed"  # the task of each row is drawn; "one_task": one task for the whole batch
    sampler.cap = placeholder(int)  # no task counts more examples than this; None: no cap
    sampler.temperature = 2.0  # temperature: shares are numbers of examples to the power 1 / temperature
    sampler.annealed_to = 0.2  # annealed: the power goes from 1 at the first step to this at the last
    return sampler


def _model() -> ConfigDict:
    """The checkpoint and changes to its config."""
    model = ConfigDict()
    model.checkpoint = ""  # a folder, package:NAME/FOLDER, or a hub id
    model.weights = "pretrained"  # "pretrained", or "random": the same network with random weights
    # Parts that are initialized if the checkpoint does not have them: "pooler", or regexes on parameter paths.
    model.initialise = ()
    model.ignore = ()  # regexes on tensor names of the checkpoint that may stay unused
    # Parts that are initialized although the checkpoint has them: "last:K" (blocks), "pooler", or selectors.
    model.reinitialise = ()
    model.drop_path_rate = placeholder(float)  # stochastic depth: drop rate of the last block; None: none
    model.hidden_dropout_prob = placeholder(float)  # dropout rate; None: the checkpoint's
    model.attention_probs_dropout_prob = placeholder(float)  # dropout rate of attention; None: the checkpoint's
    model.classifier_dropout = placeholder(float)  # dropout rate before the head; None: the checkpoint's
    model.image_size = placeholder(int)  # height and width of the images in pixels; None: the checkpoint's
    # dtype of the computation, "float32", "bfloat16" or "auto": float32 on CPUs, bfloat16 on GPUs and TPUs. A run's
    # config.json has the dtype itself. Parameters, softmax, norms and losses stay float32.
    model.dtype = "auto"
    model.attention = "auto"  # "xla", "cudnn" (one kernel on NVIDIA GPUs), or "auto", which takes cudnn where it can
    return model


def _data() -> ConfigDict:
    """The data, its splits and its columns."""
    data = ConfigDict()
    # Each set is csv:PATH, tsv:PATH, jsonl:PATH, conll:PATH, squad:PATH, npz:PATH, folder:PATH[@SPLIT],
    # tfds:NAME[@SPLIT] or builtin:NAME.
    data.train = ""  # the training set
    data.validation = ""  # the validation set; "": validation_fraction of train is split off
    data.test = ""  # the test set; "": test_fraction of train is split off
    data.validation_fraction = 0.1  # share of train that becomes the validation set
    data.test_fraction = 0.0  # share of train that becomes the test set; 0: there is no test set
    data.split_seed = 0  # seed of these splits, of per_class and of target_size
    data.sources = ()  # further labelled sets of other domains, which train is joined with before it is split
    # Domain adaptation (docs/howto_adaptation.md): a set of another domain, of which no label is read.
    data.target = ""
    data.target_size = 0  # number of its examples, sampled with split_seed; 0: all
    data.target_test = ""  # labelled test set of that domain; it is measured at each evaluation and selects nothing
    # Sets whose texts are not trained on, pairs (set, columns of its texts joined by commas). Rows of train with one of
    # these texts are left out before the split, and counted; case, spaces and punctuation do not matter.
    data.exclude = ()
    data.train_rows = 0  # number of training rows, sampled with split_seed; 0: all
    data.per_class = 0  # number of training examples of each class, sampled with split_seed; 0: all
    # Column whose equal values stay in the same split; None: the input itself, for question answering the context.
    data.group = placeholder(str)
    data.text = "text"  # column of the texts; for tagging, each row is a list of words
    data.image = "image"  # column of the images
    data.pair = placeholder(str)  # column of the second text of a pair; None: single texts
    # Column of the labels; regression and multilabel take several, joined by commas. For question answering, text is
    # the column of the questions, pair that of the contexts and label that of the answers. masked_lm needs no labels.
    data.label = "label"
    # Rows with an empty label: "refuse", or "leave_out", which counts them. -100 is always left out (classification).
    data.unlabelled = "refuse"
    data.label_separator = "|"  # separates several labels within one column
    data.max_length = 128  # longest input in tokens; longer texts are truncated
    # Several texts share a row, so that all batches of a run have one shape (docs/packing.md): "on", "off", or "auto",
    # which packs where the backbone, the method and the data allow it.
    data.packing = "auto"
    # Tagging and question answering split what is above max_length into overlapping windows: overlap in tokens; None:
    # max_length / 4.
    data.stride = placeholder(int)
    # Encoded texts of large files are kept on disk for the next run on the same data: "auto" in tlx/encoded in the
    # user's cache folder, "off" nowhere, or the path of a folder.
    data.cache = "auto"
    return data


def _augment() -> ConfigDict:
    """Augmentation of training images: settings of tlx/augment/operations.py and tlx/augment/settings.py (mixing)."""
    settings = Augmentation().to_dict()
    augment = ConfigDict({name: placeholder(float) if value is None else value for name, value in settings.items()})
    # "none", "flip_crop", "inception", "randaugment" or "deit"; the other fields of augment override the preset.
    augment.preset = "none"
    return augment


def _masking() -> ConfigDict:
    """Masking of tokens for heads of the kind "masked_lm" (tlx/augment/masking.py)."""
    masking = ConfigDict()
    masking.rate = 0.15  # share of a text's tokens that are predicted
    masking.masked = 0.8  # share of these that become the mask token
    masking.random = 0.1  # share of these that become a random token; the rest stays as it is
    return masking


def _head() -> ConfigDict:
    """The head."""
    head = ConfigDict()
    # "classification", "multilabel", "regression", "tagging", "question_answering" or "masked_lm".
    head.kind = "classification"
    head.pooling = "pooler"  # what the head reads: "pooler", "cls" (first token) or "mean" (of all tokens)
    head.standardise = True  # regression: targets are standardized by their training mean and deviation
    # Question answering: how many best first and last tokens of a window are combined, the most tokens of an answer,
    # and by how much the score of no answer exceeds that of the best answer for there to be none (SQuAD 2.0: 0.0).
    head.n_best = 20
    head.max_answer_length = 30
    head.null_threshold = placeholder(float)  # None: every question has an answer
    return head


def _method() -> ConfigDict:
    """The training method."""
    method = ConfigDict()
    method.name = "finetune"  # a name of METHODS in tlx/recipes/methods.py, with its fields; each phase may set its own
    return method


def _loss() -> ConfigDict:
    """The loss."""
    loss = ConfigDict()
    loss.name = placeholder(str)  # a loss of tlx/losses/by_name.py; None: the usual loss of the head's kind
    loss.label_smoothing = 0.0  # label smoothing of classification and tagging
    # A weight for each class in the order of the labels; for multilabel, the weights of the positive labels.
    loss.class_weights = ()
    loss.balanced = False  # sets class weights to n / (classes * count), counted on the training set
    return loss


def _params() -> ConfigDict:
    """Which parameters are trained, with which settings, in which phases."""
    params = ConfigDict()
    params.rules = ()  # (selector, group); the group "frozen" is not trained; no match: the group "default"
    # Settings of each group: multiplier (of the learning rate) or learning_rate, weight_decay, optimizer, schedule.
    params.groups = ConfigDict({"default": {"multiplier": 1.0, "weight_decay": 0.01}})
    # Parts to freeze, joined by commas: "backbone", "embeddings", "first:K", "norms", … They come after the rules.
    params.freeze = ""
    # Parts to train, joined by commas: the same, "last:K", "biases", "heads". The rest of the backbone is frozen.
    params.trainable = ""
    params.train = placeholder(str)  # deprecated name of trainable
    params.multipliers = ()  # (selector, factor of the learning rate); a path without a match has factor 1
    params.head_multiplier = 1.0  # factor of the learning rate of heads and of a method's layers
    params.layer_decay = 1.0  # factor of the learning rate from each block to the block below it
    params.layer_decay_convention = placeholder(str)  # "bert", "timm", "beit" or "electra"; None: the family's
    params.layer_decay_floor = 0.0  # smallest factor that layer_decay gives (min_scale in timm)
    params.phases = ()  # phases of training: dicts with start (in epochs), see tlx/recipes/phases.py
    params.unfreeze = ""  # a standard sequence of phases: "gradual:EPOCHS", "lp_ft:EPOCHS", "fine_tune:EPOCHS"
    # (lowest, highest) learning rate: rates grow geometrically from the embeddings to the head.
    params.discriminative = ()
    return params


def _lora() -> ConfigDict:
    """LoRA; it freezes the backbone's parameters that params.rules do not name."""
    lora = ConfigDict()
    lora.rank = 0  # rank of the adapters; 0: no LoRA
    lora.alpha = 8.0  # the adapters' output is scaled by alpha / rank
    lora.dropout = 0.0  # dropout rate of the adapters' input
    lora.rank_stabilised = False  # rsLoRA: scale by alpha / sqrt(rank) instead
    lora.targets = ()  # (selector of kernels, True, False or a rank); (): attention's queries and values
    lora.name = "lora"  # the parameters are at adapters/NAME
    lora.per_task = False  # whether each of config.tasks has an adapter of its own, at adapters/TASK
    return lora


def _features() -> ConfigDict:
    """Caching of the outputs of a frozen part of the backbone (docs/howto_features.md)."""
    features = ConfigDict()
    # "auto" and "memory" keep them in memory, "disk" in a folder; "off" computes them in each step. "memory" and "disk"
    # print the reason when nothing can be cached.
    features.cache = "auto"
    features.limit = 2 * 2**30  # largest total size of all splits in bytes; above it, nothing is cached
    features.folder = ""  # folder for "disk", shared by runs; "": tlx/features in the user's cache folder
    return features


def _optimizer() -> ConfigDict:
    """The optimizer, its schedule and clipping."""
    optimizer = ConfigDict()
    optimizer.name = "adamw"  # a name of tlx/optim/optimizers.py: "adafactor", "lamb", "lion", "sgd", …
    optimizer.learning_rate = 5e-5  # peak learning rate
    optimizer.schedule = "linear"  # a name of tlx/optim/schedules.py: "cosine", "one_cycle", "constant", …
    optimizer.warmup_steps = placeholder(int)  # number of warm-up steps; None: warmup_fraction decides
    optimizer.warmup_fraction = 0.1  # share of the run's steps that are warm-up
    # Settings of particular schedules. None is the schedule's default, which is given in parentheses.
    optimizer.final_fraction = placeholder(float)  # smallest rate after warm-up as a share of the peak (0)
    optimizer.power = placeholder(float)  # exponent of polynomial (1) and inverse (0.75)
    optimizer.gamma = placeholder(float)  # of inverse (10): rate / (1 + gamma · finished fraction) ** power
    optimizer.cycles = placeholder(int)  # number of cycles of cosine_restarts (1)
    optimizer.cycle_length = placeholder(float)  # length of a cycle relative to the cycle before it (1)
    optimizer.cycle_peak = placeholder(float)  # peak of a cycle relative to the cycle before it (1)
    optimizer.div_factor = placeholder(float)  # one_cycle: first rate = learning_rate / div_factor (25)
    optimizer.final_div_factor = placeholder(float)  # one_cycle: last rate = first rate / final_div_factor (1e4)
    optimizer.drop = placeholder(float)  # step, exponential: factor of the rate every drop_every steps (0.1)
    optimizer.drop_every = placeholder(int)  # number of steps (a third of the steps after warm-up)
    # Settings of particular optimizers. None is the optimizer's default, which is given in parentheses.
    optimizer.momentum = placeholder(float)  # sgd (0.9), rmsprop (0)
    optimizer.nesterov = placeholder(bool)  # sgd, rmsprop (False)
    optimizer.b1 = placeholder(float)  # the Adam family, lamb, lion (0.9)
    optimizer.b2 = placeholder(float)  # the Adam family, lamb (0.999), lion (0.99)
    optimizer.eps = placeholder(float)  # most (1e-8), lamb (1e-6), adagrad (1e-7), adafactor (1e-30)
    optimizer.decay_rate = placeholder(float)  # decay of squared gradients: adafactor (0.8), rmsprop (0.9)
    optimizer.min_dim_size_to_factor = placeholder(int)  # adafactor: smallest dimension that is factored (128)
    optimizer.clipping_threshold = placeholder(float)  # adafactor: largest RMS of an update (1); 0: no limit
    optimizer.multiply_by_parameter_scale = placeholder(bool)  # adafactor: relative learning rates (True)
    optimizer.clip = 1.0  # largest global norm of the trainable gradient; 0: no clipping
    optimizer.clip_value = 0.0  # largest absolute value of a gradient's entry, clipped before the norm; 0: none
    return optimizer


def _average() -> ConfigDict:
    """The average of the trainable parameters, which evaluation, selection and export use."""
    average = ConfigDict()
    average.kind = "none"  # "none", "ema" or "swa"
    average.decay = 0.999  # ema: decay of each step
    average.warmup = True  # ema: the decay after step t is min(decay, (1 + t) / (10 + t))
    average.start_fraction = 0.75  # swa: share of the run after which averaging begins
    average.every = placeholder(int)  # swa: steps between two averaged parameters; None: one epoch
    average.recalibrate_batches = 100  # batches for the average's batch norm statistics, at most one epoch
    average.learning_rate = placeholder(float)  # swa: constant rate once averaging begins; None: the schedule's
    return average


def _l2_sp() -> ConfigDict:
    """The L2-SP penalty in the loss; set weight_decay to 0 when you use it."""
    l2_sp = ConfigDict()
    l2_sp.alpha = 0.0  # strength for pretrained parameters, towards the checkpoint's values
    l2_sp.beta = 0.0  # strength for new parameters, towards zero
    return l2_sp


def _sam() -> ConfigDict:
    """Sharpness-aware minimization (SAM)."""
    sam = ConfigDict()
    sam.radius = 0.0  # sharpness-aware minimization (0.05 is usual); 0: off; each step costs two gradients
    sam.adaptive = False  # ASAM: the radius is relative to each weight, and should be about ten times larger
    return sam


def _train() -> ConfigDict:
    """The length of the run, batches, evaluation."""
    train = ConfigDict()
    train.epochs = 3.0  # length of the run; fractions are allowed
    train.batch_size = 32  # examples of a training step, over all devices
    train.target_batch_size = placeholder(int)  # examples of data.target in a training step; None: batch_size
    train.accumulate = 1  # micro-batches of a batch, computed one after the other
    train.eval_batch_size = 64  # examples of a forward pass in evaluation
    train.evaluate_every = 1.0  # epochs between evaluations
    # Time between checkpoints: "500 steps", "0.5 epochs", "90s", "10m" or "1h"; "": each evaluation saves one. The best
    # evaluation, the end of the run and a signal always save one (docs/safety.md).
    train.save_every = ""
    train.keep = 1  # how many of the newest checkpoints are kept, in addition to the best
    train.log_every = 10  # steps between two lines of training metrics
    # Steps in a row whose loss or gradient is not finite, which are skipped; one more stops the run. 0: the first does.
    train.max_skipped = 5
    train.monitor = placeholder(str)  # metric that selects the best checkpoint; None: the default of head.kind
    train.patience = placeholder(int)  # evaluations without improvement that end the run; None: no early stop
    return train


def _parallel() -> ConfigDict:
    """Devices and processes (docs/devices.md); a run may be resumed on another number of devices."""
    parallel = ConfigDict()
    parallel.mode = "auto"  # how the training step is compiled: "jit" ("auto" selects it) or "pmap"
    parallel.data = -1  # number of devices (or groups of fsdp devices) that share a batch; -1: all
    parallel.fsdp = 1  # number of devices over which large parameters and moments are sharded; 1: no sharding
    parallel.rules = ()  # (selector, "large", "largest", "whole" or an axis); a path without a match is "large"
    parallel.coordinator = ""  # HOST:PORT of process 0; "auto": the cluster's setting; "": a single process
    parallel.num_processes = placeholder(int)  # number of processes, together with HOST:PORT
    parallel.process_id = placeholder(int)  # index of this process from 0, together with HOST:PORT
    return parallel
