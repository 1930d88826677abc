"""The one mesh: all devices in a row, batches split over them, everything else on each. Nothing here knows a model."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dpconv_jax.errors import UsageError
from dpconv_jax.trees import Tree


def data_mesh(devices: int) -> Mesh:
    """A 1-D mesh ("data",) over the first `devices` devices, 0 = all.

    Raises UsageError where there are fewer, and where some of several processes would have no part.
    """
    available = jax.device_count()
    if jax.process_count() > 1 and devices not in (0, available):
        raise UsageError(f"train.devices is {devices}; several processes use all their {available} devices: 0")
    if not 0 <= devices <= available:
        raise UsageError(f"train.devices is {devices}; it must be 0 (all) or at most {available}, the devices JAX sees")
    return in_a_row(jax.devices()[: devices or available])


def in_a_row(devices: Sequence[jax.Device]) -> Mesh:
    """A 1-D mesh ("data",) over these devices."""
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Of state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Of batches: the leading axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's share of a global batch, onto its devices."""
    return {name: jax.make_array_from_process_local_data(split(mesh), array) for name, array in batch.items()}


def own(tree: Tree, mesh: Mesh) -> Tree:
    """A copy of replicated arrays on every device of this process's part of the mesh."""

    def here(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        return leaf if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable else leaf.addressable_data(0)

    return jax.device_put(jax.tree.map(here, tree), replicated(mesh.local_mesh))
