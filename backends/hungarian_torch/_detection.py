"""The losses of detected objects as modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import hungarian_core as _core
from hungarian_core import AlignedLosses, DetectionLosses
from hungarian_torch._backend import backend


class DetrLoss(nn.Module):
    """`hungarian_core.DetrLoss` as a module, with the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.criterion = _core.DetrLoss(*args, **{"backend": backend, **kwargs})

    @classmethod
    def preset(cls, name: str, num_classes: int, **changes: Any) -> DetrLoss:
        """Return the loss with published settings, as `hungarian_core.DetrLoss.preset`."""
        module = cls(num_classes)
        changes = {"backend": backend, **changes}
        module.criterion = _core.DetrLoss.preset(name, num_classes, **changes)
        return module

    def forward(
        self, logits: Tensor, boxes: Tensor, targets: Any, **options: Any
    ) -> DetectionLosses:
        """Return the loss of a batch; arguments are those of a call of the core's."""
        return self.criterion(logits, boxes, targets, **options)

    def costs(self, logits: Tensor, boxes: Tensor, targets: Any) -> dict[str, Tensor]:
        """Return the weighted terms of the matching cost by name."""
        return self.criterion.costs(logits, boxes, targets)


class AlignedDetrLoss(nn.Module):
    """`hungarian_core.AlignedDetrLoss` as a module, with the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.criterion = _core.AlignedDetrLoss(*args, **{"backend": backend, **kwargs})

    def forward(self, logits: Tensor, boxes: Tensor, targets: Any, **options: Any) -> AlignedLosses:
        """Return the loss of a batch; arguments are those of a call of the core's."""
        return self.criterion(logits, boxes, targets, **options)

    def costs(self, logits: Tensor, boxes: Tensor, targets: Any) -> dict[str, Tensor]:
        """Return the weighted terms of the matching cost by name."""
        return self.criterion.costs(logits, boxes, targets)
