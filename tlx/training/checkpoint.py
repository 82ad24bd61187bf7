"""Checkpoints: asynchronous, atomic, the whole state of a run. Kept are the newest and the best."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed
from tlx.params.paths import flatten
from tlx.training.state import State

FORMAT = 2  # of what `meta` and the items hold; a run goes on from this one alone
READABLE = (1, 2)  # whose parameters are where they are now


class _NewestAndBest:
    """What Orbax keeps. Its own best-of policy may delete the newest, and on a tie another than the run names."""

    def __init__(self) -> None:
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        newest = max((checkpoint.step for checkpoint in checkpoints), default=None)
        return [checkpoint.step in (newest, self.best) for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of a run directory. Items: `params`, `rest` (all else of the state) and `meta` (JSON).

    Where an average is kept, `params` is the average, so that whoever reads parameters reads those that were selected;
    the parameters that go on learning are then in `rest`.

    Args:
      directory: made if absent.
      read_only: for readers beside a run that may be writing: nothing is made, nothing cleaned up.
    """

    def __init__(self, directory: Path, read_only: bool = False):
        self.directory = directory.absolute()
        self._keep = _NewestAndBest()
        options = (
            ocp.CheckpointManagerOptions(read_only=True, create=False)
            if read_only
            else ocp.CheckpointManagerOptions(preservation_policy=self._keep, cleanup_tmp_directories=True)
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, state: State, meta: dict[str, Any]) -> None:
        """Begins to save; what is on the devices may change as soon as this returns. meta: `best` names a step."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._keep.best = (meta.get("best") or {}).get("step")
        args = {
            "params": ocp.args.StandardSave(state.swapped().params),
            "rest": ocp.args.StandardSave(_rest(state)),
            "meta": ocp.args.JsonSave({"format": FORMAT, **meta}),
        }
        self._manager.save(step, args=ocp.args.Composite(**args))

    def newest(self) -> int | None:
        """The newest whole step, if there is one."""
        return self._manager.latest_step()

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the state."""
        with self._reading(step):
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            meta.get("loop")["best"]  # every format has it
        if meta.get("format") not in READABLE:
            raise TlxError(
                f"{self.directory / str(step)} has checkpoint format {meta.get('format')}; this tlx reads "
                f"{listed(READABLE)}."
            )
        return meta

    def best(self) -> int:
        """The step of the best checkpoint, or the newest where none was the best yet.

        Raises:
          TlxError: there is no checkpoint.
        """
        newest = self.newest()
        if newest is None:
            raise TlxError(f"{self.directory.parent} holds no checkpoint yet.")
        return int((self.meta(newest)["loop"]["best"] or {"step": newest})["step"])

    def restore(self, step: int, target: State) -> State:
        """The state of a step, in the shapes, dtypes and shardings of `target`."""
        if (found := self.meta(step)["format"]) != FORMAT:
            raise TlxError(
                f"{self.directory / str(step)} has checkpoint format {found}, which can be read but not trained on "
                f"(that is {FORMAT}); name a new workdir."
            )
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(target.params), rest=ocp.args.StandardRestore(_rest(target))
        )
        with self._reading(step):
            self._compare(step, target.params)
            items = self._manager.restore(step, args=args)
        return State(params=items["params"], **items["rest"]).swapped()

    def restore_params(self, step: int, target: Any) -> Any:
        """The parameters alone, averaged if the run averages. target: `jax.ShapeDtypeStruct`s with shardings."""
        args = ocp.args.Composite(params=ocp.args.StandardRestore(target))
        with self._reading(step):
            self._compare(step, target)
            return self._manager.restore(step, args=args)["params"]

    def _compare(self, step: int, target: Any) -> None:
        """Raises `TlxError` unless the parameters saved have the names and shapes of `target`: Orbax itself allocates
        first, and then says no more than that two trees differ."""
        saved = ocp.StandardCheckpointHandler().metadata(self.directory / str(step) / "params").tree
        held = {path: tuple(leaf.shape) for path, leaf in flatten(saved).items()}
        asked = {path: tuple(leaf.shape) for path, leaf in flatten(target).items()}
        if differing := sorted(path for path, _ in held.items() ^ asked.items()):
            path = differing[0]
            raise TlxError(
                f"{self.directory / str(step)} does not fit its run's config: {path} is {held.get(path, 'not there')}, "
                f"expected {asked.get(path, 'none')} ({len(set(differing))} of {len(asked)} parameters differ); bring "
                "back the config.json files as the run wrote them."
            )

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Whatever Orbax raises of a checkpoint that is damaged, as a sentence."""
        try:
            yield
        except TlxError:
            raise
        except Exception as error:
            raise TlxError(
                f"the checkpoint {self.directory / str(step)} cannot be read ({type(error).__name__}: "
                f"{first_line(error)}); if it is damaged, remove that folder, and the newest of "
                f"{listed(sorted(set(self._manager.all_steps()) - {step})) or 'none'} is taken."
            ) from error

    def wait(self) -> None:
        """Until everything is written."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until everything is written, also when an error ends the run."""
        try:
            self.wait()
        finally:
            self._manager.close()


def _rest(state: State) -> dict[str, Any]:
    """What the item `rest` holds, in which the average and the parameters have changed places."""
    swapped = state.swapped()
    return {
        "step": swapped.step, "opt_state": swapped.opt_state,
        "method_state": swapped.method_state, "averages": swapped.averages,
    }  # fmt: skip


def abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and dtypes with one sharding for all, as a target to restore into."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
