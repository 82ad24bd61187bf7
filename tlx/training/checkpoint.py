"""Checkpoints hold the whole state of a run. They are saved asynchronously and atomically with Orbax."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from tlx.errors import TlxError, first_line, listed, no_space
from tlx.files.atomic import writable
from tlx.models.forward import Variables
from tlx.parallel.processes import in_all, is_multiprocess, on_main
from tlx.training.checkpoint_files import (
    DIGESTS,
    FORMAT,
    RESUMABLE,
    VERIFIED,
    Damaged,
    read_items,
    read_meta,
    saved_averages,
    signed,
    verified,
)
from tlx.training.digest import digests
from tlx.training.manager import Manager, NewestAndBest
from tlx.training.state import AUX, EVAL_PARAMS, State

PATIENCE = 10.0  # seconds that a run of several processes which ends with an error waits for a save
EARLIER_EVAL_PARAMS = "answers"  # name of the average in earlier versions


class Checkpoints:
    """The checkpoints of a run directory.

    The newest checkpoints and the best one are kept, and of a run of several tasks the best one for each. A checkpoint
    has these items:

    - `params`: the model's parameters.
    - `aux`: the parameters that only training needs, if there are any.
    - `model_state`: the model's mutable collections, if there are any.
    - `train_state`: the rest of the state.
    - `meta`: JSON with a digest of every array of the other items, and a checksum of itself.

    Whatever is read is verified against the digests. The model can be read without knowing how it was trained. If the
    run keeps an average, `params` and `model_state` are those of the average, which is what was evaluated; the
    parameters in training are then in `train_state`. In format 2, `train_state` was called `rest`, and `aux` and
    `model_state` did not exist. Up to format 3 there are no digests.

    Args:
      directory: the folder of the checkpoints; it is made if it does not exist.
      read_only: whether to only read, for example while a run is writing. Nothing is then made or deleted.
      keep: how many of the newest are kept, at least 1.
    """

    def __init__(self, directory: Path, read_only: bool = False, keep: int = 1):
        self.directory = directory.absolute()
        self._policy = NewestAndBest(keep)
        self._manager: Manager | None = None
        if not read_only:
            options = ocp.CheckpointManagerOptions(preservation_policy=self._policy, cleanup_tmp_directories=True)
            with writable(self.directory):
                on_main(lambda: self.directory.mkdir(exist_ok=True))
                self._manager = Manager(self.directory, options=options)
                self._identity = _identity(self.directory)
                self._held = os.open(self.directory, os.O_RDONLY)  # so that no new folder can get its inode number

    def save(self, state: State, meta: dict[str, Any]) -> None:
        """Starts to save a state. The arrays may be overwritten as soon as this returns.

        Args:
          state: the state; nothing is done if there is a checkpoint of its step already.
          meta: JSON values that are saved too. `meta["best"]["step"]` is the step of the best checkpoint, and
            `meta["by_task"][TASK]["step"]` that of the best for a task.

        Raises:
          TlxError: if the folder of the checkpoints is no longer there.
        """
        assert self._manager is not None, "opened to read only"
        step = int(state.step)
        with self._writing():
            if step in self._manager.all_steps():
                return
            self._policy.best = best_steps(meta)
            items = _items(state)
            args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
            lines = {name: digests(item) for name, item in items.items()}
            meta = signed({"format": FORMAT, **meta, DIGESTS: lines})
            self._manager.save(step, args=ocp.args.Composite(**args, meta=ocp.args.JsonSave(meta)))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises `TlxError` if the folder has been removed or replaced, before anything is written and if that fails.

        Orbax would make a new folder, in which the run's other files and checkpoints are missing.
        """
        gone = TlxError(
            f"{self.directory} was removed while the run was writing to it; what it held is lost. Give the same "
            "command again to train from what is left."
        )
        if _identity(self.directory) != self._identity:
            raise gone
        try:
            yield
        except Exception as error:
            if _identity(self.directory) != self._identity:
                raise gone from error
            raise

    def set_aside(self, step: int, ending: str) -> str:
        """Renames the folder of a step, so that it is no longer one of the checkpoints. All processes call it together.

        Args:
          step: the step; nothing is done if it has no folder.
          ending: what is added to the name after a dot; a number follows if that name exists.

        Returns:
          The new name, for a message; "" in other processes than the main one.
        """
        assert self._manager is not None, "opened to read only"

        def rename() -> str:
            name, count = f"{step}.{ending}", 1
            while (self.directory / name).exists():
                count += 1
                name = f"{step}.{ending}.{count}"
            with writable(self.directory), contextlib.suppress(FileNotFoundError):
                self._folder(step).rename(self.directory / name)
            return name

        name = on_main(rename)
        self._manager.reload()
        return name or ""

    def tidy(self, best: Collection[int]) -> None:
        """Deletes the checkpoints that are no longer kept. All processes call it together.

        A process that is killed while it deletes one leaves a part of it, which no later save deletes if the run ends.

        Args:
          best: the best steps, which are kept with the newest.
        """
        assert self._manager is not None, "opened to read only"

        def delete() -> None:
            steps = self.steps()
            for step in set(steps) - {*best, *steps[-self._policy.keep :]}:
                shutil.rmtree(self._folder(step), ignore_errors=True)

        on_main(delete)
        self._manager.reload()

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints in ascending order, whole or damaged."""
        if not self.directory.is_dir():
            return []
        return sorted(int(folder.name) for folder in self.directory.iterdir() if _is_step(folder))

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._manager is not None and bool(self._manager.is_saving_in_progress())

    def newest(self) -> int | None:
        """Returns the step of the newest complete checkpoint; None if there is none."""
        return max(self.steps(), default=None)

    def meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON values of a checkpoint.

        Raises:
          Damaged: if they are damaged.
          TlxError: if the format is unknown.
        """
        return read_meta(self._folder(step))

    def best(self) -> int:
        """Returns the step of the best checkpoint, or of the newest if none has been selected yet.

        Raises:
          Damaged: if the newest checkpoint, which names the best, is damaged.
          TlxError: if there is no checkpoint.
        """
        newest = self.newest()
        if newest is None:
            raise TlxError(f"{self.directory.parent} holds no checkpoint yet.")
        return int((self.meta(newest)["loop"]["best"] or {"step": newest})["step"])

    def restore(self, step: int, target: State) -> State:
        """Returns the state of a step, with the shapes, dtypes and shardings of `target`.

        Raises:
          Damaged: if the checkpoint is damaged.
          TlxError: if it does not fit `target`, or has a format that cannot be resumed.
        """

        def from_format(version: int) -> dict[str, Any]:
            if version not in RESUMABLE:
                raise TlxError(
                    f"{self._folder(step)} has checkpoint format {version}, which can be read but not trained on "
                    f"(formats {listed(RESUMABLE)} can); name a new workdir."
                )
            items = _items(target)
            return _in_earlier_names(self._folder(step), items) if version < VERIFIED else items

        restored = self._restore(step, from_format)
        train_state = restored.pop("rest", None) or restored["train_state"]
        if EARLIER_EVAL_PARAMS in (train_state.get("averages") or {}):
            train_state["averages"] = _renamed(train_state["averages"], EARLIER_EVAL_PARAMS, EVAL_PARAMS)
        params = {**restored["params"], **({AUX: restored["aux"]} if "aux" in restored else {})}
        return State(params=params, model_state=restored.get("model_state", {}), **train_state).with_eval_params()

    def restore_variables(self, step: int, target: Variables) -> Variables:
        """Returns the model's parameters and its mutable collections (averaged if the run averages).

        Args:
          step: step of the checkpoint.
          target: trees of `jax.ShapeDtypeStruct`s with shardings; `model_state` is {} if the model has none.

        Raises:
          Damaged: if the checkpoint is damaged.
          TlxError: if it does not fit `target`.
        """
        if not target.model_state and (self._folder(step) / "model_state").exists():
            raise TlxError(
                f"{self._folder(step)} holds a model_state, and the model of its run's config has none; "
                "bring back the config.json files as the run wrote them."
            )
        items = {"params": target.params, **({"model_state": target.model_state} if target.model_state else {})}
        restored = self._restore(step, lambda _: items)
        return Variables(restored["params"], restored.get("model_state", target.model_state))

    def _restore(self, step: int, targets_of: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """The verified items of a step; `targets_of` is a function from the format to the items' shapes.

        If one process cannot read its part, no process goes on with the step.
        """

        def read() -> tuple[dict[str, Any], dict[str, Any], Any]:
            meta = self.meta(step)
            targets, lines = targets_of(meta["format"]), meta.get(DIGESTS)
            return read_items(self._folder(step), targets, lines), targets, lines

        failed = Damaged(self._folder(step), "another process of the run cannot read it")
        items, targets, lines = in_all(read, failed)
        if lines is None:
            return items
        return in_all(lambda: verified(self._folder(step), items, targets, lines), failed)

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def wait(self) -> None:
        """Waits until all checkpoints are written.

        Raises:
          TlxError: if a checkpoint could not be written for another reason than a full disk.
        """
        if self._manager is not None:
            with self._writing():
                try:
                    self._manager.wait_until_finished()
                except Exception as error:
                    if no_space(error):
                        raise  # `errors.one_sentence` says so
                    raise TlxError(
                        f"a checkpoint could not be written to {self.directory} ({type(error).__name__}: "
                        f"{first_line(error)}); what was saved before is whole, and the same command goes on."
                    ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, *_: object) -> None:
        """Waits until all checkpoints are written, also if an error ended the run.

        After an error with several processes it waits at most `PATIENCE` seconds: the others may have stopped too.
        """
        if self._manager is None:
            return
        if error is not None and is_multiprocess():
            until = time.monotonic() + PATIENCE
            while self.saving and self._manager.failure is None and time.monotonic() < until:
                time.sleep(0.1)
            if self.saving:
                return  # the process ends at once, and what is unfinished is removed by the next run
        try:
            self.wait()
        finally:
            os.close(self._held)
            with contextlib.suppress(Exception):  # it waits again, and raises the same error again
                self._manager.close()


def best_steps(record: Mapping[str, Any]) -> frozenset[int]:
    """Returns the steps that a record names as best: of the run (`best`) and for each task (`by_task`)."""
    bests = [record.get("best"), *record.get("by_task", {}).values()]
    return frozenset(int(best["step"]) for best in bests if best)


def _is_step(folder: Path) -> bool:
    return folder.name.isascii() and folder.name.isdigit() and folder.is_dir()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; None if it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _in_earlier_names(folder: Path, items: dict[str, Any]) -> dict[str, Any]:
    """The items with the names that an earlier format gave them."""
    name = "train_state" if (folder / "train_state").exists() else "rest"
    train_state = {field: item for field, item in items["train_state"].items() if field != "skipped_in_a_row"}
    if EARLIER_EVAL_PARAMS in saved_averages(folder, name):
        train_state = {**train_state, "averages": _renamed(train_state["averages"], EVAL_PARAMS, EARLIER_EVAL_PARAMS)}
    return {**{item: tree for item, tree in items.items() if item != "train_state"}, name: train_state}


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
