"""The messages of the learned network."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from hungarian_core._checks import one_of, real, whole
from hungarian_core._extents import require_equal, same

__all__ = ["association", "distance_shape", "one_of", "real", "size", "structure"]


def distance_shape(shape: tuple[Any, ...]) -> None:
    """Check the number of axes of distances."""
    if len(shape) < 2:
        raise ValueError(
            f"distance has shape {shape}; expected (..., n, m): one row per reference, "
            "one column per prediction, any batch dimensions before"
        )


def association(came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    """Check that the true association has the shape of the distances."""
    if len(came) != len(shape) or not all(same(a, b) for a, b in zip(came, shape, strict=True)):
        raise ValueError(f"association has shape {came}; expected that of distance, {shape}")
    require_equal("association", came, shape)


def size(name: str, value: Any) -> None:
    """Check a number of channels or layers."""
    whole(name, value, 1, "a whole number from 1 on")


def structure(params: Any, where: Any = "params") -> None:
    """Check that parameters are those of a network."""
    shapes = {}
    if isinstance(params, Mapping):
        shapes = {name: tuple(getattr(x, "shape", ())) for name, x in params.items()}
    width = (shapes.get("input.bias") or (0,))[0]
    layers = (shapes.get("layers.momentum") or (0,))[0]
    expected: dict[str, tuple[Any, ...]] = {
        "input.weight": (6, width), "input.bias": (width,),
        "gate.weight": (6 + 5 * width, width), "gate.bias": (width,),
        "gate.out": (width,), "gate.offset": (), "layers.momentum": (layers, 2),
        "cost.scale": (), "cost.gate": (), "side.slope": (),
        "score.scale": (), "score.offset": (), "score.gate": (),
    }  # fmt: skip
    if set(shapes) != set(expected):
        raise ValueError(
            f"{where} is {_brief(params)}; expected the parameters of a network, "
            f"as init_params and load_pretrained return them{_differ(set(shapes), set(expected))}"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(
                f"{where}: {name!r} has shape {shapes[name]}; expected {shape} in a network of "
                f"width {width} with {layers} layers"
            )


def _differ(came: set[str], expected: set[str]) -> str:
    """Say which parameters lack or are too many, if it is mostly a network."""
    if len(came & expected) < len(expected) / 2:
        return ""
    lacking = ", ".join(sorted(expected - came)) or "nothing"
    more = ", ".join(sorted(map(str, came - expected))) or "nothing"
    return f"; it lacks {lacking} and has {more} besides"


def values(params: Mapping[str, np.ndarray], where: Any) -> None:
    """Check that the parameters of a file are what `save` writes: float32 and finite."""
    for name, x in params.items():
        if x.dtype != np.float32:
            raise ValueError(
                f"{where}: {name!r} has dtype {x.dtype}; expected float32, as "
                "hungarian_core.hnet.save writes it"
            )
        if not np.isfinite(x).all():
            raise ValueError(
                f"{where}: {name!r} holds {x[~np.isfinite(x)].flat[0]}; expected finite numbers: "
                "the training diverged, or the file is damaged"
            )


def _brief(params: Any) -> str:
    if not isinstance(params, Mapping):
        return f"a {type(params).__name__}"
    names = sorted(map(str, params))
    return f"a mapping of {', '.join(names[:4]) or 'nothing'}{', ...' if names[4:] else ''}"


def file_format(path: Any, came: str | None, expected: str) -> None:
    """Check the format that a file says it has."""
    if came != expected:
        raise ValueError(
            f"{path}: the format is {came!r}; expected {expected!r}, "
            "a file that hungarian_core.hnet.save wrote"
        )


def unreadable(path: Any, error: Exception) -> str:
    """Return what to say of a file that is none of safetensors, or not the whole of one."""
    return (
        f"{path}: not a file of network weights, or not the whole of one ({error}); "
        "expected a safetensors file that hungarian_core.hnet.save wrote"
    )


def no_weights(max_len: Any, sizes: list[int]) -> str:
    """Return what to say where no weights of a size are shipped."""
    there = ", ".join(map(str, sizes)) or "none"
    return (
        f"there are no weights for max_len {max_len!r}; those there are: {there}. "
        "Weights of a larger size serve smaller problems too; or train your own"
    )


def generated(max_len: Any, samples: Any, counts: Any, resolutions: Any, missing: Any) -> None:
    """Check the options of the generator."""
    one_of("missing", missing, ("published", "masked", "mixed"))
    whole("max_len", max_len, 1, "a whole number from 1 on")
    if not isinstance(samples, numbers.Integral) and len(samples) != max_len + 1:
        raise ValueError(
            f"samples has {len(samples)} numbers; expected {max_len + 1}, "
            f"for 0 to {max_len} associations, or one number"
        )
    for pair in counts or ():
        if len(pair) != 2 or not all(0 <= count <= max_len for count in pair):
            raise ValueError(
                f"counts has {pair!r}; expected pairs of whole numbers from 0 to {max_len}, "
                "references and predictions"
            )
    for resolution in resolutions:
        if int(resolution) != resolution or not 1 <= resolution <= 90:
            raise ValueError(f"resolutions has {resolution!r}; expected whole degrees from 1 to 90")


def measured(came: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Check what a distance function of the user returns."""
    if came != expected:
        raise ValueError(f"distance returned an array of shape {came}; expected {expected}")
