"""Checkpoints hold the whole state of a run. They are saved asynchronously and atomically with Orbax."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed
from tlx.models.forward import Variables
from tlx.params.paths import flatten
from tlx.training.state import AUX, EVAL_PARAMS, State

FORMAT = 3  # version of the contents of `meta` and the items
RESUMABLE = (2, 3)  # formats from which a run can continue
READABLE = (1, 2, 3)  # formats whose parameters can be read
EARLIER_EVAL_PARAMS = "answers"  # name of the average in earlier versions


class _NewestAndBest:
    """Preservation policy that keeps the newest and the best checkpoint.

    Orbax's own policy for the best checkpoint may delete the newest, and may keep another one of several equal ones.
    """

    def __init__(self) -> None:
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        newest = max((checkpoint.step for checkpoint in checkpoints), default=None)
        return [checkpoint.step in (newest, self.best) for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of a run directory.

    The newest and the best checkpoint are kept. A checkpoint has these items:

    - `params`: the model's parameters.
    - `aux`: the parameters that only training needs, if there are any.
    - `model_state`: the model's mutable collections, if there are any.
    - `train_state`: the rest of the state.
    - `meta`: JSON.

    The model can therefore be read without knowing how it was trained. If the run keeps an average, `params` and
    `model_state` are those of the average, which is what was evaluated; the parameters in training are then in
    `train_state`. In format 2, `train_state` was called `rest`, and `aux` and `model_state` did not exist.

    Args:
      directory: the folder of the checkpoints; it is made if it does not exist.
      read_only: whether to only read, for example while a run is writing. Nothing is then made or deleted.
    """

    def __init__(self, directory: Path, read_only: bool = False):
        self.directory = directory.absolute()
        self._policy = _NewestAndBest()
        options = (
            ocp.CheckpointManagerOptions(read_only=True, create=False)
            if read_only
            else ocp.CheckpointManagerOptions(preservation_policy=self._policy, cleanup_tmp_directories=True)
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, state: State, meta: dict[str, Any]) -> None:
        """Starts to save a state. The arrays may be overwritten as soon as this returns.

        Args:
          state: the state; nothing is done if there is a checkpoint of its step already.
          meta: JSON values that are saved too. `meta["best"]["step"]` is the step of the best checkpoint.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._policy.best = (meta.get("best") or {}).get("step")
        args = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
        meta = {"format": FORMAT, **meta}
        self._manager.save(step, args=ocp.args.Composite(**args, meta=ocp.args.JsonSave(meta)))

    def newest(self) -> int | None:
        """Returns the step of the newest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON values of a checkpoint.

        Raises:
          TlxError: if the checkpoint is damaged or has an unknown format.
        """
        with self._reading(step):
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            meta.get("loop")["best"]  # all formats have this key
        if meta.get("format") not in READABLE:
            raise TlxError(
                f"{self.directory / str(step)} has checkpoint format {meta.get('format')}; this tlx reads "
                f"{listed(READABLE)}."
            )
        return meta

    def best(self) -> int:
        """Returns the step of the best checkpoint, or of the newest if none has been selected yet.

        Raises:
          TlxError: if there is no checkpoint.
        """
        newest = self.newest()
        if newest is None:
            raise TlxError(f"{self.directory.parent} holds no checkpoint yet.")
        return int((self.meta(newest)["loop"]["best"] or {"step": newest})["step"])

    def restore(self, step: int, target: State) -> State:
        """Returns the state of a step, with the shapes, dtypes and shardings of `target`.

        Raises:
          TlxError: if the checkpoint is damaged, does not fit `target`, or has a format that cannot be resumed.
        """
        if (version := self.meta(step)["format"]) not in RESUMABLE:
            raise TlxError(
                f"{self.directory / str(step)} has checkpoint format {version}, which can be read but not trained on "
                f"(formats {listed(RESUMABLE)} can); name a new workdir."
            )
        items, name = _items(target), "rest" if version == 2 else "train_state"
        items[name] = items.pop("train_state")
        with self._reading(step):
            self._compare(step, items["params"])
            saved = self._saved(step, name)
            if "skipped_in_a_row" not in saved:  # earlier versions had no skipped steps
                del items[name]["skipped_in_a_row"]
            has_earlier_name = EARLIER_EVAL_PARAMS in (saved.get("averages") or {})
            if has_earlier_name:
                items[name]["averages"] = _renamed(items[name]["averages"], EVAL_PARAMS, EARLIER_EVAL_PARAMS)
            args = {item: ocp.args.StandardRestore(tree) for item, tree in items.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        train_state = restored[name]
        if has_earlier_name:
            train_state["averages"] = _renamed(train_state["averages"], EARLIER_EVAL_PARAMS, EVAL_PARAMS)
        params = {**restored["params"], **({AUX: restored["aux"]} if "aux" in items else {})}
        model_state = restored["model_state"] if "model_state" in items else {}
        return State(params=params, model_state=model_state, **train_state).with_eval_params()

    def restore_params(self, step: int, target: Any) -> Any:
        """Returns only the model's parameters (averaged if the run averages).

        Args:
          step: step of the checkpoint.
          target: a tree of `jax.ShapeDtypeStruct`s with shardings.
        """
        args = ocp.args.Composite(params=ocp.args.StandardRestore(target))
        with self._reading(step):
            self._compare(step, target)
            return self._manager.restore(step, args=args)["params"]

    def _compare(self, step: int, target: Any) -> None:
        """Raises `TlxError` unless the saved parameters have the paths and shapes of `target`.

        Orbax would allocate the arrays first, and its message would only say that two trees differ.
        """
        saved = {path: tuple(leaf.shape) for path, leaf in flatten(self._saved(step, "params")).items()}
        expected = {path: tuple(leaf.shape) for path, leaf in flatten(target).items()}
        if differing := sorted(path for path, _ in saved.items() ^ expected.items()):
            path = differing[0]
            raise TlxError(
                f"{self.directory / str(step)} does not fit its run's config: {path} is "
                f"{saved.get(path, 'not there')}, expected {expected.get(path, 'none')} ({len(set(differing))} of "
                f"{len(expected)} parameters differ); bring back the config.json files as the run wrote them."
            )

    def _saved(self, step: int, item: str) -> Any:
        """The shapes and dtypes of a saved item, as a tree."""
        return ocp.StandardCheckpointHandler().metadata(self.directory / str(step) / item).tree

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turns any exception that Orbax raises for a damaged checkpoint into a `TlxError`."""
        try:
            yield
        except TlxError:
            raise
        except Exception as error:
            raise TlxError(
                f"the checkpoint {self.directory / str(step)} cannot be read ({type(error).__name__}: "
                f"{first_line(error)}); if it is damaged, remove that folder, and the run continues from the newest of "
                f"{listed(sorted(set(self._manager.all_steps()) - {step})) or 'none'}."
            ) from error

    def restore_model_state(self, step: int, target: Any) -> Any:
        """Returns the model's mutable collections.

        Args:
          step: step of the checkpoint.
          target: a tree of `jax.ShapeDtypeStruct`s with shardings; {} if the model has none.

        Raises:
          TlxError: if the checkpoint has mutable collections and `target` has none.
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
        """Returns the parameters and the model state (averaged if the run averages).

        Args:
          step: step of the checkpoint.
          target: shapes, dtypes and shardings, as in `restore_params` and `restore_model_state`.
        """
        return Variables(self.restore_params(step, target.params), self.restore_model_state(step, target.model_state))

    def wait(self) -> None:
        """Waits until all checkpoints are written."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until all checkpoints are written, also if an error ended the run."""
        try:
            self.wait()
        finally:
            self._manager.close()


def _items(state: State) -> dict[str, Any]:
    """The items of a checkpoint, in which the average and the parameters are swapped."""
    swapped = state.with_eval_params()
    items = {
        "params": {name: part for name, part in swapped.params.items() if name != AUX},
        "aux": swapped.params.get(AUX),
        "model_state": dict(swapped.model_state),
        "train_state": {
            "step": swapped.step, "opt_state": swapped.opt_state,
            "method_state": swapped.method_state, "averages": swapped.averages,
            "skipped_in_a_row": swapped.skipped_in_a_row,
            **({"averaged_model_state": also} if (also := dict(swapped.averaged_model_state)) else {}),
        },
    }  # fmt: skip
    return {name: item for name, item in items.items() if item or name in ("params", "train_state")}


def _renamed(tree: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in tree.items()}
