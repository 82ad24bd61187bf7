"""Faults of saving and going on that the harness must find, as changes of functions' texts."""

import dataclasses
from typing import Any

from tests.planting import changed_code
from tlx.training.checkpoint import Checkpoints
from tlx.training.digest import digests
from tlx.training.loop import _Loop
from tlx.training.writers import Lines


@dataclasses.dataclass(frozen=True)
class Planted:
    """A fault.

    Attributes:
      function: where it is.
      change: an old text, which stands there once, and a new one.
      trials: the trials that must find it.
      says: what the harness then prints.
      everywhere: whether the undisturbed runs have the fault too; otherwise comparing with them would be enough.
    """

    function: Any
    change: tuple[str, str]
    trials: tuple[str, ...]
    says: str
    everywhere: bool = False

    def plant(self) -> None:
        """Changes the function for the rest of this process."""
        self.function.__code__ = changed_code(self.function, (self.change,))


ATOMICITY = '__import__("orbax.checkpoint._src.path.atomicity", fromlist=["_"])'
COMMITTED_LATER = f"cleanup_tmp_directories=True, temporary_path_class={ATOMICITY}.CommitFileTemporaryPath"
FAULTS = {
    "a save is not atomic": Planted(
        Checkpoints.__init__,
        ("cleanup_tmp_directories=True", COMMITTED_LATER),
        ("kill", "kill at a write"),
        "WRONG",
    ),
    "digests are of the wrong array": Planted(
        digests,
        ("_parts(leaf) for leaf", "_parts(next(iter(leaves.values()))) for leaf"),
        ("damage",),
        "WRONG",  # the run goes on from other numbers: it ends with these, or diverges
        everywhere=True,
    ),
    "the best step is forgotten": Planted(
        _Loop.resume,
        ('Progressed(**meta["loop"])', 'Progressed(**{**meta["loop"], "best": None})'),
        ("kill", "kill at a write"),
        "differs from the undisturbed run",
    ),
    "lines of metrics are written twice": Planted(
        Lines.__init__,
        ('line["step"] <= resumed_at', 'line["step"] <= resumed_at + 1'),
        ("kill", "kill at a write"),
        "differs from the undisturbed run: metrics.jsonl",
    ),
    "a signal saves in the middle of a step": Planted(
        _Loop.run,
        (
            "self.means.add(metrics)",
            "if requested():\n            self.save_or_stop(phase, step, False)\n        self.means.add(metrics)",
        ),
        ("signal",),
        "differs from the undisturbed run: metrics.jsonl",
    ),
}
