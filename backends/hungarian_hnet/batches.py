"""Batches of problems that lie in memory, which go on where a run was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Batches:
    """An epoch after the other of the same problems, each in an order of its own.

    A batch is cut from arrays by a slice of a shuffled index: a `DataLoader` that collects samples
    one by one takes longer than a step of training. Its state, which Lightning keeps in
    checkpoints, is the place in the epoch; the order follows from seed and epoch.
    """

    def __init__(self, arrays: tuple[Tensor | None, ...], size: int, seed: int | None) -> None:
        """Take arrays `[N, ...]` or None, the size of batches, and a seed; None: in order."""
        self.arrays = arrays
        self.size = size
        self.seed = seed
        self.count = next(len(x) for x in arrays if x is not None)
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch, also of one that is under way."""
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor | None, ...]]:
        if self.seed is None:
            order = torch.arange(self.count)
        else:
            generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
            order = torch.randperm(self.count, generator=generator)
        for start in range(self.position * self.size, self.count, self.size):
            chosen = order[start : start + self.size]
            # Before the batch is given away: Lightning asks for no more than there are, and so
            # never comes back from the last one.
            self.position += 1
            if self.position == len(self):
                self.position, self.epoch = 0, self.epoch + 1
            yield tuple(None if x is None else x[chosen] for x in self.arrays)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place."""
        self.epoch, self.position = state["epoch"], state["position"]
