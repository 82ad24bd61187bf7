"""Batches on their way to the devices: grain fetches ahead in threads, what is fetched was decided by the plan."""

from collections.abc import Iterator, Mapping
from typing import Any

from tlx.data.examples import Batches
from tlx.parallel.layout import Layout


def feed(streams: Mapping[str, Batches], layout: Layout, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yields `{stream: {field: array}}` from step `start`, cut over the devices, a few steps ahead of their use."""
    import grain

    steps = min(len(batches) for batches in streams.values())
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    source = grain.MapDataset.source(_Steps(streams, steps))
    for batch in source.slice(slice(start, steps)).to_iter_dataset(options):
        yield layout.put_batch(batch)


class _Steps:
    """All streams' batches by step, as grain's random-access source."""

    def __init__(self, streams: Mapping[str, Batches], steps: int):
        self.streams, self.steps = streams, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        """All streams of a step share one padded length, so that their lengths do not multiply what is compiled."""
        length = max(batches.length(int(step)) for batches in self.streams.values())
        return {name: batches.padded(int(step), length) for name, batches in self.streams.items()}
