"""Feeds batches to the devices. The plan of the data decides their content; grain prefetches them in a thread."""

from collections.abc import Iterator, Mapping
from typing import Any

from tlx.data.batches import Batches
from tlx.parallel.layout import Layout


def feed(streams: Mapping[str, Batches], layout: Layout, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yields `{stream: {field: array}}` from step `start` on, sharded over the devices and prefetched.

    Args:
      streams: the batches of each stream; the shortest stream decides the number of steps.
      layout: the placement of arrays on the devices.
      start: the first step.
    """
    import grain

    steps = min(len(batches) for batches in streams.values())
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    source = grain.MapDataset.source(_Steps(streams, steps))
    for batch in source.slice(slice(start, steps)).to_iter_dataset(options):
        yield layout.put_batch(batch)


class _Steps:
    """The batches of all streams by step, as a random-access source of grain."""

    def __init__(self, streams: Mapping[str, Batches], steps: int):
        self.streams, self.steps = streams, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        """The batches of a step. All streams have the same padded length, which limits the number of compilations."""
        length = max(batches.length(int(step)) for batches in self.streams.values())
        return {name: batches.padded(int(step), length) for name, batches in self.streams.items()}
