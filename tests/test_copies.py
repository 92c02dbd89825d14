"""Copies of criteria, as made by `copy.deepcopy` and `pickle`: the same bits by the same way."""

from __future__ import annotations

import copy
import doctest
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_native
from hungarian_core.losses import criteria
from hungarian_core.losses.base import Loss
from hungarian_core.losses.presets import PRESETS

NATIVE = ("matching_costs", "class_losses", "box_losses")
# A criterion and the arguments of a call.
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which passes of the native library run from now on."""
    seen: list[str] = []

    def spied(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            seen.append(name)
            return function(*args, **options)

        return run

    for name in NATIVE:
        function = getattr(hungarian_native.solve, name)
        monkeypatch.setattr(hungarian_native.solve, name, spied(name, function))
    return seen


def _arrays(x: Any) -> Iterator[np.ndarray]:
    if isinstance(x, Mapping):
        x = tuple(x[key] for key in sorted(x))
    if isinstance(x, (tuple, list)):
        for part in x:
            yield from _arrays(part)
    elif x is not None:
        yield np.asarray(x)


def _check(call: Call, passes: list[str]) -> None:
    criterion, args, options = call
    passes.clear()
    expected = list(_arrays(criterion(*args, **options)))
    ran = passes.copy()
    for again in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        passes.clear()
        found = list(_arrays(again(*args, **options)))
        assert passes == ran
        assert repr(again) == repr(criterion)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y, strict=True)


def _detection(criterion: Any, softmax: bool) -> Call:
    rng = np.random.default_rng(0)
    calls: dict[str, Any] = {}
    targets = {"labels": np.array([[1, 2], [0, 0]]), "boxes": rng.uniform(0.2, 0.6, (2, 2, 4))}
    if getattr(criterion, "masks", None) is not None:
        calls["masks"] = rng.normal(size=(2, 6, 8, 8))
        targets["masks"] = rng.uniform(size=(2, 2, 8, 8)) < 0.5
    arrays = rng.normal(size=(2, 6, 3 + softmax)), rng.uniform(0.2, 0.6, (2, 6, 4))
    listed = [{key: x[b] for key, x in targets.items()} for b in range(2)]
    return criterion, (*arrays, listed), calls


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str, passes: list[str]) -> None:
    criterion = hc.DetrLoss.preset(preset, 3)
    _check(_detection(criterion, criterion.class_loss == "softmax"), passes)


@pytest.mark.parametrize("loss", hc.terms.CLASS_LOSSES)
def test_losses_of_classes(loss: Any, passes: list[str]) -> None:
    _check(_detection(hc.DetrLoss(3, class_loss=loss), loss == "softmax"), passes)
    assert passes or hc.terms.CLASS_LOSSES[loss].native is None


def test_the_aligned_loss(passes: list[str]) -> None:
    _check(_detection(hc.AlignedDetrLoss(3), True), passes)


KINDS = (hc.AlignedDetrLoss, hc.DetrLoss, hc.HungarianLoss, hc.SetLoss)
CRITERIA = {x.__name__: x for x in (*KINDS, *(getattr(criteria, x) for x in criteria.__all__))}


@pytest.mark.parametrize("name", CRITERIA)
def test_examples(name: str, passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the example of a docstring makes and calls."""
    calls: list[Call] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: Any, *args: Any, **options: Any) -> Any:
            calls.append((self, args, options))
            return call(self, *args, **options)

        return noted

    with monkeypatch.context() as patch:
        for kind in CRITERIA.values():
            if isinstance(kind, type) and issubclass(kind, Loss):
                patch.setattr(kind, "__call__", noting(kind.__call__))
        space: dict[str, Any] = {"np": np, "hc": hc}
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(CRITERIA[name]) or ""):
            exec(example.source, space)
    for call in calls:
        _check(call, passes)
