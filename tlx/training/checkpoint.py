"""Checkpoints: asynchronous, atomic, the whole state of a run. Kept are the newest and the best."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed
from tlx.models.forward import Variables
from tlx.params.paths import flatten
from tlx.training.state import AUX, EVAL_PARAMS, State

FORMAT = 3  # of what `meta` and the items hold
RESUMABLE = (2, 3)  # from which a run goes on
READABLE = (1, 2, 3)  # whose parameters can be read
EARLIER_EVAL_PARAMS = "answers"  # what the average was called before


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
    `params` is the average and `model_state` its own, so that readers get what was selected; those that go on learning
    are then in `train_state`. In format 2, `train_state` was called `rest` and there was no `aux` or `model_state`.

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
        items, name = _items(target), "rest" if found == 2 else "train_state"
        items[name] = items.pop("train_state")
        with self._reading(step):
            self._compare(step, items["params"])
            earlier = EARLIER_EVAL_PARAMS in (self._saved(step, name).get("averages") or {})
            if earlier:
                items[name]["averages"] = _renamed(items[name]["averages"], EVAL_PARAMS, EARLIER_EVAL_PARAMS)
            args = {item: ocp.args.StandardRestore(tree) for item, tree in items.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        train_state = restored[name]
        if earlier:
            train_state["averages"] = _renamed(train_state["averages"], EARLIER_EVAL_PARAMS, EVAL_PARAMS)
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
        saved = self._saved(step, "params")
        held = {path: tuple(leaf.shape) for path, leaf in flatten(saved).items()}
        asked = {path: tuple(leaf.shape) for path, leaf in flatten(target).items()}
        if differing := sorted(path for path, _ in held.items() ^ asked.items()):
            path = differing[0]
            raise TlxError(
                f"{self.directory / str(step)} does not fit its run's config: {path} is {held.get(path, 'not there')}, "
                f"expected {asked.get(path, 'none')} ({len(set(differing))} of {len(asked)} parameters differ); bring "
                "back the config.json files as the run wrote them."
            )

    def _saved(self, step: int, item: str) -> Any:
        """The tree of an item as it was saved: shapes and dtypes."""
        return ocp.StandardCheckpointHandler().metadata(self.directory / str(step) / item).tree

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
        """The model's mutable collections. target: `jax.ShapeDtypeStruct`s with shardings; {} where there are none.

        Raises:
          TlxError: the checkpoint has them and `target` does not.
        """
        if not target:
            if (self.directory / str(step) / "model_state").exists():
                raise TlxError(
                    f"{self.directory / str(step)} holds a model_state, and the model of its run's config has none; "
                    "bring back the config.json files as the run wrote them."
                )
            return target
        args = ocp.args.Composite(model_state=ocp.args.StandardRestore(target))
        with self._reading(step):
            return self._manager.restore(step, args=args)["model_state"]

    def restore_variables(self, step: int, target: Variables) -> Variables:
        """What the model is evaluated with: averaged if the run averages. target: as of the two above."""
        return Variables(self.restore_params(step, target.params), self.restore_model_state(step, target.model_state))

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
    swapped = state.with_eval_params()
    items = {
        "params": {name: part for name, part in swapped.params.items() if name != AUX},
        "aux": swapped.params.get(AUX),
        "model_state": dict(swapped.model_state),
        "train_state": {
            "step": swapped.step, "opt_state": swapped.opt_state,
            "method_state": swapped.method_state, "averages": swapped.averages,
            **({"averaged_model_state": also} if (also := dict(swapped.averaged_model_state)) else {}),
        },
    }  # fmt: skip
    return {name: item for name, item in items.items() if item or name in ("params", "train_state")}


def _renamed(tree: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in tree.items()}
