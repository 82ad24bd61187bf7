"""The distribution of a run over devices: the mesh, the sharding of the state, the rows of a batch on each device."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlx.errors import TlxError
from tlx.parallel.axis import DEVICES
from tlx.parallel.placement import Axes, axis_of, shard_axes
from tlx.parallel.processes import is_main, is_multiprocess
from tlx.params.kinds import KindTable
from tlx.params.rules import Rules

MODES = ("auto", "jit", "pmap")  # "auto" is "jit"
BATCH_AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The distribution of arrays over devices.

    A batch is sharded over all devices. The state is sharded over the mesh axis `fsdp` as `axes` specifies.

    Attributes:
      mesh: the mesh with the axes `data` and `fsdp`, over the devices of all processes.
      mode: how the training step is parallelized: with `jit`, XLA partitions one program over the devices; with `pmap`,
        each device runs the step on its rows and gradients are summed over the devices.
      axes: the sharded axis of each parameter; empty before `with_params` is called, when all leaves are replicated.
      rules: rules `(selector, value)` for the sharding of parameters (see `placement.shard_axes`).
    """

    mesh: Mesh
    mode: str = "jit"
    axes: Axes = dataclasses.field(default_factory=dict)
    rules: Rules = ()

    @property
    def size(self) -> int:
        """The number of devices over which a batch is sharded."""
        return int(self.mesh.size)

    @property
    def fsdp_size(self) -> int:
        """The number of shards of a sharded parameter."""
        return int(self.mesh.shape["fsdp"])

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return is_main()

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of arrays that are replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The sharding of batches: the leading axis over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    def with_params(self, params: Any, kinds: KindTable | None = None) -> "Layout":
        """Returns this layout with `axes` for a model's parameters.

        Args:
          params: the parameters, as arrays or shapes.
          kinds: the family's table of kinds.

        Raises:
          TlxError: if a rule applies to no parameter, or a parameter cannot be sharded as a rule says.
        """
        return dataclasses.replace(self, axes=shard_axes(params, self.fsdp_size, self.rules, kinds))

    def shardings(self, tree: Any) -> Any:
        """Returns the sharding of every leaf of parameters, or of a tree that contains parameters, such as a state."""

        def leaf_sharding(keys: tuple[Any, ...], leaf: Any) -> NamedSharding:
            axis = axis_of(keys, tuple(leaf.shape), self.axes)
            spec = PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, "fsdp")
            return NamedSharding(self.mesh, spec)

        return jax.tree_util.tree_map_with_path(leaf_sharding, tree)

    def abstract(self, tree: Any) -> Any:
        """Returns shapes and dtypes with shardings, as the target of restoring a checkpoint."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            tree, self.shardings(tree),
        )  # fmt: skip

    def put(self, tree: Any) -> Any:
        """Places parameters, a state or constants on the devices; every process passes the same values."""
        shardings = self.shardings(tree)
        return jax.tree.map(_put, tree, shardings) if is_multiprocess() else jax.device_put(tree, shardings)

    def rows(self, count: int) -> np.ndarray:
        """Returns the rows of a batch of `count` rows that this process loads, int64, in order."""
        slices = self.batch.addressable_devices_indices_map((count,)).values()
        return np.unique(np.concatenate([np.arange(count)[index] for index in slices]))

    def put_batch(self, rows: Any) -> Any:
        """Places this process's rows of a batch (see `rows`) on its devices; returns the batch of all processes."""
        if not is_multiprocess():
            return jax.device_put(rows, self.batch)
        return jax.tree.map(lambda field: jax.make_array_from_process_local_data(self.batch, field), rows)

    def gather(self, tree: Any) -> Any:
        """Returns the whole arrays as NumPy arrays, in every process."""
        return jax.device_get(jax.tree.map(_global_value, tree))

    def train_step(self, step: Callable[..., Any], state: Any, constants: tuple[Any, ...]) -> Callable[..., Any]:
        """Compiles a training step for the devices. The compiled step donates the state.

        Args:
          step: a pure function `(state, batch, *constants) -> (state, metrics)` of the whole batch.
          state: the state, or its shapes.
          constants: the constants, or their shapes.
        """
        state_shardings = self.shardings(state)
        if self.mode == "pmap":
            step = self._by_device(step)
        return jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(state_shardings, self.batch, *self.shardings(constants)),
            out_shardings=(state_shardings, self.replicated),
        )

    def _by_device(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step as a program of one device. Gradients, dropout, … access the mapped axis by `tlx.parallel.axis`.

        This is what `jax.pmap` compiles to; `jax.pmap` itself cannot be called within `jax.jit` by several processes.
        """
        mesh = Mesh(self.mesh.devices.ravel(), (DEVICES,))

        def mapped(state: Any, batch: Any, *constants: Any) -> Any:
            whole = PartitionSpec()
            specs = (whole, PartitionSpec(DEVICES), *(whole for _ in constants))
            # Without check_vma: the step itself sums over devices what differs between them.
            by_device = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
            return by_device(state, batch, *constants)

        return mapped


def make_layout(data: int = -1, fsdp: int = 1, mode: str = "auto", rules: Rules = ()) -> Layout:
    """Creates a layout over the devices of all processes.

    Args:
      data: the size of the mesh axis `data`; -1 uses all devices.
      fsdp: the size of the mesh axis `fsdp`, over which large parameters are sharded.
      mode: one of `MODES`; `auto` is `jit`.
      rules: rules for the sharding of parameters (see `Layout`).

    Raises:
      TlxError: if the sizes do not fit the number of devices, or the mode does not support the other settings.
    """
    devices = jax.devices()
    if mode not in MODES:
        raise TlxError(f"parallel.mode is {mode!r}; it must be one of {', '.join(MODES)}.")
    if fsdp < 1 or fsdp > len(devices) or (data == -1 and len(devices) % fsdp):
        raise TlxError(f"parallel.fsdp is {fsdp}; it must divide the {len(devices)} devices.")
    requested, data = data, len(devices) // fsdp if data == -1 else data
    if data < 1 or data * fsdp > len(devices):
        times = f" times parallel.fsdp {fsdp}" if fsdp > 1 else ""
        raise TlxError(f"parallel.data is {requested}{times}; there are {len(devices)} devices (-1 uses all).")
    if is_multiprocess() and data * fsdp < len(devices):
        raise TlxError(
            f"parallel.data is {requested}, which uses {data * fsdp} of {len(devices)} devices; with several processes "
            "all devices must be used (-1)."
        )
    if mode == "pmap" and fsdp > 1:
        raise TlxError(
            f"parallel.mode is 'pmap', which cannot shard parameters, and parallel.fsdp is {fsdp}; use 'jit'."
        )
    mesh = jax.make_mesh(
        (data, fsdp), BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto), devices=devices[: data * fsdp]
    )
    return Layout(mesh, "jit" if mode == "auto" else mode, rules=rules)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Makes one global array of a leaf whose value every process has."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(leaf))
        return jax.jit(wrap, out_shardings=sharding)(data)
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def _global_value(leaf: Any) -> Any:
    """The whole value of a leaf that may be distributed over several processes."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)
