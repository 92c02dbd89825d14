"""What every loss that is an object has."""

from __future__ import annotations

from typing import Any, ClassVar

from hungarian_core._backend import Backend
from hungarian_core._settings import Configured


class Loss(Configured):
    """A loss: where its arrays go by default, and how it shows its settings.

    The front door of a framework is a subclass of the loss with a `default_backend`. So it has the
    signature of the loss, and joins other bases: an `__init__` calls that of its bases first.

    Attributes:
        default_backend: The backend where `backend` is None; None for that of the arrays.
    """

    default_backend: ClassVar[str | Backend | None] = None


class OfCriterion:
    """An attribute of a loss that its criteria have: what is set counts from the next call on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, loss: Any, owner: Any = None) -> Any:
        return self if loss is None else getattr(loss.criteria[0], self.name)

    def __set__(self, loss: Any, value: Any) -> None:
        for criterion in loss.criteria:
            setattr(criterion, self.name, value)
