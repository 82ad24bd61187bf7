"""Checkpoints: asynchronous, atomic, the whole state of a run. Kept are the newest and the best."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed
from tlx.params.paths import flatten
from tlx.training.state import State

FORMAT = 3  # of what `meta` and the items hold
RESUMABLE = (2, 3)  # from which a run goes on
READABLE = (1, 2, 3)  # whose parameters can be read
AUX = "aux"  # the root of the parameters that only training needs


class _NewestAndBest:
    """What Orbax keeps. Its own best-of policy may delete the newest, and on a tie another than the run names."""

    def __init__(self) -> None:
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        newest = max((checkpoint.step for checkpoint in checkpoints), default=None)
        return [checkpoint.step in (newest, self.best) for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of a run directory.

    Items: `params` (the model's), `aux` (parameters that only training needs), `model_state` (the model's mutable
    collections), `train_state` (all else of the state) and `meta` (JSON); `aux` and `model_state` only where there is
    something to put in. So whoever reads the model need not know what it was trained with. Where an average is kept,
    `params` is the average, so that readers get the parameters that were selected; those that go on learning are then
    in `train_state`. In format 2, `train_state` was called `rest` and there was no `aux` or `model_state`.

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
        args = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
        meta = {"format": FORMAT, **meta}
        self._manager.save(step, args=ocp.args.Composite(**args, meta=ocp.args.JsonSave(meta)))

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
        if (found := self.meta(step)["format"]) not in RESUMABLE:
            raise TlxError(
                f"{self.directory / str(step)} has checkpoint format {found}, which can be read but not trained on "
                f"(formats {listed(RESUMABLE)} can); name a new workdir."
            )
        items = _items(target)
        if found == 2:
            items["rest"] = items.pop("train_state")
        args = {name: ocp.args.StandardRestore(item) for name, item in items.items()}
        with self._reading(step):
            self._compare(step, items["params"])
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        train_state = restored["rest" if found == 2 else "train_state"]
        params = {**restored["params"], **({AUX: restored["aux"]} if "aux" in items else {})}
        model_state = restored["model_state"] if "model_state" in items else {}
        return State(params=params, model_state=model_state, **train_state).with_eval_params()

    def restore_params(self, step: int, target: Any) -> Any:
        """The model's parameters alone, averaged if the run averages. target: shapes and dtypes with shardings."""
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

    def restore_model_state(self, step: int, target: Any) -> Any:
        """The model's mutable collections. target: `jax.ShapeDtypeStruct`s with shardings; {} reads nothing."""
        if not target:
            return target
        args = ocp.args.Composite(model_state=ocp.args.StandardRestore(target))
        with self._reading(step):
            return self._manager.restore(step, args=args)["model_state"]

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


def _items(state: State) -> dict[str, Any]:
    """What the items hold, in which the average and the parameters have changed places."""
    with_eval_params = state.with_eval_params()
    items = {
        "params": {name: part for name, part in with_eval_params.params.items() if name != AUX},
        "aux": with_eval_params.params.get(AUX),
        "model_state": dict(with_eval_params.model_state),
        "train_state": {
            "step": with_eval_params.step, "opt_state": with_eval_params.opt_state,
            "method_state": with_eval_params.method_state, "averages": with_eval_params.averages,
        },
    }  # fmt: skip
    return {name: item for name, item in items.items() if item or name in ("params", "train_state")}
