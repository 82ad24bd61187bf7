"""`tlx inspect CONFIG [FIELD=VALUE …] [--full]`: shows what a config would train and the cost of a step."""

import argparse

from tlx.cli.launch import load_config, quiet_logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, FIELD=VALUE and --full."""
    parser.add_argument(
        "config", help="a config file, if needed with its argument after a colon: configs/text_file.py:sst2"
    )
    parser.add_argument(
        "override", nargs="*", metavar="FIELD=VALUE",
        help="change fields of the config, such as train.batch_size=16; --config.FIELD=VALUE is also accepted",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="print a row for each parameter instead of merging blocks")


def main(arguments: argparse.Namespace) -> None:
    """Prints the rules, the phases, the table of parameters, the totals and advice."""
    quiet_logs()
    config = load_config(arguments.config, arguments.override)
    from tlx.params.partition import FROZEN
    from tlx.recipes.inspect import folded, inspect
    from tlx.reporting.tables import show

    result = inspect(config)
    rows = [
        (
            leaf.path, "x".join(map(str, leaf.shape)), leaf.dtype, leaf.group,
            f"{leaf.multiplier:g}", f"{leaf.decay:g}", f"{leaf.bytes:,}",
            *([leaf.sharding] if result.shards > 1 else []),
        )
        for leaf in (result.leaves if arguments.full else folded(result.leaves))
    ]  # fmt: skip
    if rules := result.phases[0].rules:
        show("rules", ("selector", "group"), [(selector, str(group)) for selector, group in rules])
    if len(result.phases) > 1:
        phases = [
            (
                str(phase.first),
                ", ".join(f"{selector} {group}" for selector, group in phase.rules) or "everything",
                f"{phase.trainable:,}",
            )
            for phase in result.phases
        ]
        show("phases", ("from step", "rules", "trainable parameters"), phases)
    sharding = ("sharding",) if result.shards > 1 else ()
    show(arguments.config, ("path", "shape", "dtype", "group", "multiplier", "decay", "bytes", *sharding), rows)
    count = dict.fromkeys((False, True), 0)
    for leaf in result.leaves:
        count[leaf.group == FROZEN] += leaf.bytes // 4
    sizes = ", ".join(f"{n} {part}" for part, n in result.examples.items())
    totals = [
        ("examples", sizes),
        ("steps", str(result.steps)),
        ("trainable parameters", f"{count[False]:,}"),
        ("frozen parameters", f"{count[True]:,}"),
        *([("initialized by model.reinitialise", f"{result.initialized:,}")] if result.initialized else []),
        *((f"bytes of {name}", f"{size:,}") for name, size in result.bytes.items()),
        ("the costliest step", f"{result.batch[0]} × {result.batch[1]} tokens"),
        ("its FLOPs", f"{result.flops:,.0f}"),
        ("its bytes of memory traffic", f"{result.accessed:,.0f}"),
    ]
    show("in all", ("", ""), totals)
    for sentence in result.advice:
        print(f"Advice: {sentence}")
