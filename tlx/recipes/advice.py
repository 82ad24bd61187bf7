"""What is allowed and usually a mistake: sentences that `tlx inspect` prints before anything is trained."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from tlx.recipes.parameters import GroupAssignment

# Whose updates are as long as the rate in every entry; by their usual name.
ADAM_LIKE = {
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "nadamw": "NAdamW",
    "amsgrad": "AMSGrad",
    "lion": "Lion",
}
LOOSE = 1e-3  # a rate for AdamW beyond which a pretrained transformer forgets: those published are 1e-6 to 5e-4
TIMID = 1e-4  # a rate for SGD below which next to nothing happens


def advise(config: ConfigDict, assignment: GroupAssignment, total: int, examples: int) -> list[str]:
    """Sentences, none if nothing looks wrong.

    Args:
      config: a fine-tuning config.
      choice: what learns in it.
      total: steps of the run.
      examples: of the training split.
    """
    return [*_rates(config, assignment), *_frozen(config, assignment), *_run(config, total, examples)]


def _rates(config: ConfigDict, assignment: GroupAssignment) -> Iterable[str]:
    optimizer = config.optimizer
    rates = {
        path: optimizer.learning_rate * assignment.factor(path, optimizer.learning_rate)
        for path, group in assignment.assigned.items()
        if path.startswith("backbone/") and group in assignment.groups
    }
    if not rates or config.model.weights != "pretrained":
        return
    path = max(rates, key=lambda path: rates[path])
    name = assignment.groups[assignment.assigned[path]].optimizer or optimizer.name
    if name in ADAM_LIKE and rates[path] >= LOOSE:
        by = ADAM_LIKE[name]
        yield f"{path} learns at {rates[path]:g} by {by}; a pretrained backbone usually takes 1e-5 to 1e-4."
    if name == "sgd" and rates[path] < TIMID:
        yield f"{path} learns at {rates[path]:g} by SGD at most; that is a rate for AdamW, SGD takes 1e-3 to 1e-1."


def _frozen(config: ConfigDict, assignment: GroupAssignment) -> Iterable[str]:
    heads = [path for path in assignment.frozen if path.startswith("heads/")]
    if heads:
        yield f"{heads[0]} is drawn anew and frozen, so the answers stay random; let `heads/.*` learn."
    initialise = config.model.initialise
    anew = [initialise] if isinstance(initialise, str) else list(initialise)
    pooler = [path for path in assignment.frozen if path.startswith("backbone/pooler/")]
    if pooler and any(part in ("pooler", "all") for part in anew):
        yield f"{pooler[0]} is drawn anew and frozen; let it learn, or let the head read config.head.pooling='mean'."


def _run(config: ConfigDict, total: int, examples: int) -> Iterable[str]:
    warmup = config.optimizer.warmup_steps
    rising = round(config.optimizer.warmup_fraction * total) if warmup is None else warmup
    if rising > total / 2:
        yield f"the learning rate rises over {rising} of the run's {total} steps."
    if config.train.batch_size > examples:
        yield f"config.train.batch_size is {config.train.batch_size}, and there are {examples} training examples."
    if config.optimizer.schedule == "constant" and config.train.epochs > 1 and not rising:
        yield "the learning rate neither rises nor falls (config.optimizer.schedule='constant' without a warm-up)."
