"""The errors about models of `transformers`."""

from __future__ import annotations

import inspect
from types import CodeType
from typing import Any


def asks_for_its_loss(model: Any) -> None:
    """Raise unless a model's class has something of its own that calls `loss_function`."""
    kind = type(getattr(model, "_orig_mod", model))  # torch.compile hands on what is set
    if not hasattr(kind, "loss_function"):
        raise ValueError(
            f"{kind.__name__} is no model of transformers; expected one, as it is before "
            "DistributedDataParallel or the like wraps it"
        )
    if any(_named("loss_function", part) for part in _own_parts(kind)):
        return
    if hasattr(model, "criterion"):
        raise ValueError(
            f"{kind.__name__} never calls its loss_function: its loss is model.criterion; "
            "put TransformersCriterion.for_model(model) in its place"
        )
    raise ValueError(
        f"{kind.__name__} never calls its loss_function: it has no loss for training; call "
        "DetrLoss on what it returns"
    )


def has_a_criterion(model: Any) -> None:
    """Raise if a model has no criterion that could be replaced."""
    if not hasattr(model, "criterion"):
        raise ValueError(
            f"{type(model).__name__} has no criterion; expected a segmenter such as Mask2Former. "
            "Of a model that calls its loss_function, replace that by "
            "TransformersLoss.for_model(model)"
        )


def one_query_each(settings: dict[str, Any]) -> None:
    """Raise if objects were to be matched several times where masks are compared pair by pair."""
    for name in ("repeat", "groups"):
        if settings.get(name, 1) != 1:
            raise ValueError(f"{name} is {settings[name]}; with masks it has to be 1")


def _own_parts(kind: type) -> list[CodeType]:
    """Return the code of the methods of a class and of its bases, but for where the loss is."""
    found = []
    for base in kind.__mro__:
        if "loss_function" in vars(base):
            break
        for part in vars(base).values():
            function = inspect.unwrap(part) if inspect.isfunction(part) else None
            if function is not None:
                found.append(function.__code__)
    return found


def _named(name: str, code: CodeType) -> bool:
    """Say whether a code, or one within it, takes an attribute of this name."""
    within = (x for x in code.co_consts if isinstance(x, CodeType))
    return name in code.co_names or any(_named(name, x) for x in within)
