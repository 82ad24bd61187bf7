"""A mesh of local devices with the axis `data`: parameters are replicated over it, batches are cut along it."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlx.errors import TlxError


def make_mesh(data: int = -1) -> Mesh:
    """data: how many local devices share a batch; -1 for all."""
    devices = jax.local_devices()
    if data == 0 or data < -1 or data > len(devices):
        raise TlxError(f"parallel.data is {data}; there are {len(devices)} devices (-1 takes all).")
    count = len(devices) if data == -1 else data
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def along_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis cut over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))
