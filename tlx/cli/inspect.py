"""`tlx inspect CONFIG [FIELD=VALUE …] [--full]`: what a config would train, and what a step of it costs."""

import argparse

from tlx.cli.launch import load_config, quiet_logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --full."""
    parser.add_argument("config", help="a config file, with its argument after a colon: configs/text_file.py:sst2")
    parser.add_argument(
        "override", nargs="*", metavar="FIELD=VALUE",
        help="such as train.batch_size=16; or the words of a launch, --config=CONFIG --config.FIELD=VALUE",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="a row for each parameter; else blocks alike share rows")


def main(arguments: argparse.Namespace) -> None:
    """Prints the table of parameters and the totals."""
    quiet_logs()
    config = load_config(arguments.config, arguments.override)
    from tlx.params.partition import FROZEN
    from tlx.recipes.inspect import folded, inspect
    from tlx.reporting.tables import show

    found = inspect(config)
    rows = [
        (
            leaf.path, "x".join(map(str, leaf.shape)), leaf.dtype, leaf.group,
            f"{leaf.multiplier:g}", f"{leaf.decay:g}", f"{leaf.bytes:,}", *((leaf.sharding,) if found.ways > 1 else ()),
        )
        for leaf in (found.leaves if arguments.full else folded(found.leaves))
    ]  # fmt: skip
    if rules := found.phases[0].rules:
        show("rules", ("selector", "group"), [(selector, str(group)) for selector, group in rules])
    if len(found.phases) > 1:
        named = [
            (
                str(phase.first),
                ", ".join(f"{selector} {group}" for selector, group in phase.rules) or "everything",
                f"{phase.trainable:,}",
            )
            for phase in found.phases
        ]
        show("phases", ("from step", "rules", "parameters that learn"), named)
    sharding = ("sharding",) if found.ways > 1 else ()
    show(arguments.config, ("path", "shape", "dtype", "group", "multiplier", "decay", "bytes", *sharding), rows)
    count = dict.fromkeys((False, True), 0)
    for leaf in found.leaves:
        count[leaf.group == FROZEN] += leaf.bytes // 4
    sizes = ", ".join(f"{n} {part}" for part, n in found.examples.items())
    totals = [
        ("examples", sizes),
        ("steps", str(found.steps)),
        ("trainable parameters", f"{count[False]:,}"),
        ("frozen parameters", f"{count[True]:,}"),
        *([("drawn anew by model.reinitialise", f"{found.initialized:,}")] if found.initialized else []),
        *((f"bytes of {name}", f"{size:,}") for name, size in found.bytes.items()),
        ("the costliest step", f"{found.batch[0]} examples of {found.batch[1]} tokens"),
        ("its FLOPs", f"{found.flops:,.0f}"),
        ("its bytes of memory traffic", f"{found.accessed:,.0f}"),
    ]
    show("in all", ("", ""), totals)
    for sentence in found.advice:
        print(f"Look again: {sentence}")
