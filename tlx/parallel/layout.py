"""How a run lies on its devices: the mesh, where each leaf of the state lies, which rows of a batch a device has."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlx.errors import TlxError
from tlx.parallel.axis import DEVICES
from tlx.parallel.placement import Axes, axis_of, cut_axes
from tlx.parallel.processes import is_main, several
from tlx.params.kinds import KindTable
from tlx.params.rules import Rules

MODES = ("auto", "jit", "pmap")  # "auto" is "jit"
BATCH_AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything lies. A batch is cut over all devices; of the state, what `axes` says over the axis `fsdp`.

    Attributes:
      mesh: with the axes `data` and `fsdp`, over the devices of all processes.
      mode: of the training step: `jit`, in which XLA cuts one program over the devices, or `pmap`, in which each device
        runs the step on its rows and sums are taken over the devices.
      axes: of parameters; empty before `with_params`, when all leaves are whole.
      rules: of parameters, `(selector, value)` (see `placement.cut_axes`).
    """

    mesh: Mesh
    mode: str = "jit"
    axes: Axes = dataclasses.field(default_factory=dict)
    rules: Rules = ()

    @property
    def size(self) -> int:
        """How many devices share a batch."""
        return int(self.mesh.size)

    @property
    def ways(self) -> int:
        """Into how many parts a parameter is cut that is cut."""
        return int(self.mesh.shape["fsdp"])

    @property
    def is_main(self) -> bool:
        """Whether this process writes what a run writes."""
        return is_main()

    @property
    def everywhere(self) -> NamedSharding:
        """The same on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The leading axis cut over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    def with_params(self, params: Any, kinds: KindTable | None = None) -> "Layout":
        """The layout of a model with these parameters (arrays or shapes).

        Raises:
          TlxError: a rule that no parameter follows, or that cannot be followed.
        """
        return dataclasses.replace(self, axes=cut_axes(params, self.ways, self.rules, kinds))

    def shardings(self, tree: Any) -> Any:
        """The sharding of every leaf of parameters, of a state, or of whatever is held in such trees."""

        def of(keys: tuple[Any, ...], leaf: Any) -> NamedSharding:
            axis = axis_of(keys, tuple(leaf.shape), self.axes)
            spec = PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, "fsdp")
            return NamedSharding(self.mesh, spec)

        return jax.tree_util.tree_map_with_path(of, tree)

    def abstract(self, tree: Any) -> Any:
        """Shapes and dtypes with their shardings, as a target to restore into."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            tree, self.shardings(tree),
        )  # fmt: skip

    def put(self, tree: Any) -> Any:
        """Parameters, a state or constants, the same in every process, to where they lie."""
        shardings = self.shardings(tree)
        return jax.tree.map(_put, tree, shardings) if several() else jax.device_put(tree, shardings)

    def rows(self, count: int) -> np.ndarray:
        """Which of a batch's so many rows this process has, int64, in order."""
        held = self.batch.addressable_devices_indices_map((count,)).values()
        return np.unique(np.concatenate([np.arange(count)[index] for index in held]))

    def put_batch(self, rows: Any) -> Any:
        """The rows that this process has (see `rows`), of which the devices make one batch."""
        if not several():
            return jax.device_put(rows, self.batch)
        return jax.tree.map(lambda field: jax.make_array_from_process_local_data(self.batch, field), rows)

    def gather(self, tree: Any) -> Any:
        """As NumPy arrays, whole, in every process."""
        return jax.device_get(jax.tree.map(_whole, tree))

    def train_step(self, step: Callable[..., Any], state: Any, constants: tuple[Any, ...]) -> Callable[..., Any]:
        """The compiled `(state, batch, *constants) -> (state, metrics)`; it donates the state.

        Args:
          step: pure, of one program for the whole batch.
          state, constants: what it is called with, or shapes.

        Raises:
          TlxError: in the mode `pmap`, a state that is computed from batches: a device would know of its rows alone.
        """
        held = self.shardings(state)
        if self.mode == "pmap":
            if jax.tree.leaves((state.method_state, state.model_state)):
                raise TlxError(
                    "parallel.mode is 'pmap', in which a device sees its own rows alone; this method or model keeps a "
                    "state over the whole batch (statistics), so take 'jit'."
                )
            step = self._by_device(step)
        return jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(held, self.batch, *self.shardings(constants)),
            out_shardings=(held, self.everywhere),
        )

    def _by_device(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step under `jax.pmap`. `tlx.parallel.axis` is how gradients and dropout know of the other devices."""

        def whole(state: Any, batch: Any, *constants: Any) -> Any:
            # As a flat list: jax.pmap of JAX 0.10 misplaces in_axes behind an argument that holds a None.
            same, structure = jax.tree.flatten((state, constants))

            @functools.partial(
                jax.pmap, axis_name=DEVICES, in_axes=(None, 0), out_axes=None, devices=tuple(self.mesh.devices.flat)
            )
            def on_device(same: list[Any], rows: Any) -> Any:
                state, constants = jax.tree.unflatten(structure, same)
                return step(state, rows, *constants)

            rows = jax.tree.map(lambda field: field.reshape(self.size, -1, *field.shape[1:]), batch)
            return on_device(same, rows)

        return whole


def make_layout(data: int = -1, fsdp: int = 1, mode: str = "auto", rules: Rules = ()) -> Layout:
    """Over the devices of this process, or of all processes.

    Args:
      data: how many groups of devices share a batch; -1: as many as there are.
      fsdp: of how many devices a group is, over which large parameters are cut.
      mode: one of `MODES`.
      rules: of parameters (see `Layout`).

    Raises:
      TlxError: numbers that do not fit the devices, or a mode that does not fit the rest.
    """
    devices = jax.devices()
    if mode not in MODES:
        raise TlxError(f"parallel.mode is {mode!r}; it is one of {', '.join(MODES)}.")
    if fsdp < 1 or fsdp > len(devices) or (data == -1 and len(devices) % fsdp):
        raise TlxError(f"parallel.fsdp is {fsdp}; it must divide the {len(devices)} devices.")
    data_given, data = data, len(devices) // fsdp if data == -1 else data
    if data < 1 or data * fsdp > len(devices):
        times = f" times parallel.fsdp {fsdp}" if fsdp > 1 else ""
        raise TlxError(f"parallel.data is {data_given}{times}; there are {len(devices)} devices (-1 takes all).")
    if several() and data * fsdp < len(devices):
        raise TlxError(
            f"parallel.data is {data_given}: {data * fsdp} of the {len(devices)} devices; several processes share a "
            "batch over all of their devices (-1)."
        )
    if mode == "pmap" and fsdp > 1:
        raise TlxError(
            f"parallel.mode is 'pmap', which keeps parameters whole; parallel.fsdp is {fsdp}, so take 'jit'."
        )
    if mode == "pmap" and several():
        raise TlxError("parallel.mode is 'pmap', which tlx has in one process alone; of several processes take 'jit'.")
    mesh = jax.make_mesh(
        (data, fsdp), BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto), devices=devices[: data * fsdp]
    )
    return Layout(mesh, "jit" if mode == "auto" else mode, rules=rules)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """A leaf that every process has, as one array over all of them."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(leaf))
        return jax.jit(wrap, out_shardings=sharding)(data)
    held = np.asarray(leaf)
    return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])


def _whole(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)
