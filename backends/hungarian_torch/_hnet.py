"""The learned Hungarian network as a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hungarian_core import hnet
from hungarian_torch._backend import backend


class HNet(nn.Module):
    """The learned Hungarian network: distances `(..., n, m)` to probabilities of association.

    Its parameters are those of `hungarian_core.hnet` by the same names: ``state_dict()`` is what a
    file of weights holds. ``HNet.from_pretrained(2).frozen()`` is a layer through which gradients
    reach the distances and which itself stays as it is. n and m are any numbers; how well the
    network does beyond those that it was trained on has to be tried.

    Args:
        width, layers, seed: Of the initial weights, as for `hungarian_core.hnet.init_params`.

    Attributes:
        metadata: What a file of weights says of itself; empty without a file.

    Examples:
        >>> network = ht.HNet.from_pretrained(2).frozen()
        >>> network(torch.tensor([[0.1, 2.0], [1.5, 0.2]])).round(decimals=2)
        tensor([[1., 0.],
                [0., 1.]])
    """

    def __init__(self, *, width: int = 16, layers: int = 10, seed: int = 0) -> None:
        super().__init__()
        self.metadata: dict[str, str] = {}
        self._register(hnet.init_params(width=width, layers=layers, seed=seed))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> HNet:
        """Return the network of given parameters, which are copied."""
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        module.metadata = {}
        module._register(params)
        return module

    @classmethod
    def from_pretrained(cls, max_len: int = 2) -> HNet:
        """Return the network that comes with the package, as `hungarian_core.hnet`'s."""
        return cls.from_params(hnet.load_pretrained(max_len))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HNet:
        """Return the network of a file of weights; errors are those of `hungarian_core.hnet`."""
        params, metadata = hnet.load(path)
        module = cls.from_params(params)
        module.metadata = metadata
        return module

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write a file of weights; `metadata` is added to what a loaded file said."""
        params = {name: x.numpy(force=True) for name, x in self.params().items()}
        hnet.save(path, params, {**self.metadata, **(metadata or {})})

    def _register(self, params: Mapping[str, Any]) -> None:
        """Hold arrays as parameters; a dot in a name makes a module within."""
        for name, value in params.items():
            *path, leaf = name.split(".")
            holder: nn.Module = self
            for part in path:
                if part not in dict(holder.named_children()):
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            holder.register_parameter(leaf, nn.Parameter(torch.tensor(value)))

    def params(self) -> dict[str, Tensor]:
        """Return the parameters as the functions of `hungarian_core.hnet` take them."""
        return dict(self.named_parameters())

    def frozen(self) -> HNet:
        """Let the parameters need no gradient, and return the module itself."""
        return self.requires_grad_(False)

    def forward(
        self, distance: Tensor, row_mask: Tensor | None = None, col_mask: Tensor | None = None
    ) -> Tensor:
        """Return the probabilities of association `(..., n, m)` of distances `(..., n, m)`.

        Masks are `(..., n)` and `(..., m)` bool, True = valid.
        """
        masks = {"row_mask": row_mask, "col_mask": col_mask}
        return hnet.associate(distance, self.params(), **masks, backend=backend)

    def loss(
        self,
        distance: Tensor,
        association: Tensor,
        row_mask: Tensor | None = None,
        col_mask: Tensor | None = None,
        reduction: Any = "mean",
    ) -> Tensor:
        """Return the loss of training, as `hungarian_core.hnet.association_loss`."""
        masks = {"row_mask": row_mask, "col_mask": col_mask}
        options = {**masks, "reduction": reduction, "backend": backend}
        return hnet.association_loss(distance, association, self.params(), **options)
