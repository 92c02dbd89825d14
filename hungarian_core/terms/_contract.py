"""What terms are held to: their attributes, and what they return, with the messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hungarian_core._backend import Backend
from hungarian_core._extents import require_equal, same
from hungarian_core.terms._checks import Extents, brief
from hungarian_core.terms.term import QueryLosses, Term

_RESERVED = ("mask", "weights", "ignore")  # which targets have for all terms


def term(name: str, given: Any) -> None:
    """Check that what is given is a term, with the attributes of one."""
    if not isinstance(given, Term):
        raise TypeError(f"{name} is {brief(given)}; expected a term, such as terms.Boxes()")
    for attribute in ("outputs", "fields", "weights"):
        if not isinstance(getattr(given, attribute, None), Mapping):
            raise TypeError(
                f"{name} ({type(given).__name__}) has no mapping {attribute!r}; expected one, "
                "empty if need be, as hungarian_core.terms.Term says"
            )


def term_list(terms: Any) -> None:
    """Check the terms of a set loss: their losses have different names."""
    if not isinstance(terms, (list, tuple)) or not terms:
        raise ValueError(f"terms is {brief(terms)}; expected a list of one term at least")
    names: list[str] = []
    for k, one in enumerate(terms):
        term(f"terms[{k}]", one)
        twice = [name for name in one.weights if name in names]
        if twice:
            raise ValueError(
                f"terms[{k}] has a loss {twice[0]!r}, as one before it; expected other names, as "
                "terms.Prefixed('other_', ...) gives them"
            )
        names += one.weights
        reserved = [name for name in _RESERVED if name in one.fields]
        if reserved:
            raise ValueError(
                f"terms[{k}] reads {reserved[0]!r} of the targets, which says which objects there "
                "are or how they count; expected another key"
            )


def iou_told(terms: Iterable[Term]) -> None:
    """Check that a term tells the IoU, if one needs it."""
    for one in terms:
        if one.needs_iou and not any(x.tells_iou() for x in terms):
            raise ValueError(
                f"{one!r} needs the IoU of matched boxes; expected a term Boxes() beside it, or "
                "another that has the IoU"
            )


def alignable(terms: Iterable[Term]) -> None:
    """Check that terms can be matched by their loss."""
    for one in terms:
        if one.alignable():
            continue
        raise ValueError(
            f"{brief(one)} cannot be matched by its loss; expected match_by='cost', or terms "
            "whose loss is known before the match: all that compare, Masks, and Classes with "
            "loss='softmax' and no label_smoothing"
        )


def read_together(what: str, of_terms: Iterable[Mapping[str, Extents]]) -> dict[str, Extents]:
    """Return what several terms read, by key; of a key, all that any of them expects.

    Args:
        what: Of what they read it.
        of_terms: For each term, what arrays end in, by key.
    """
    together: dict[str, Extents] = {}
    for extents_of in of_terms:
        for name, extents in extents_of.items():
            first = together.setdefault(name, extents)
            pairs = list(zip(first, extents, strict=False))
            if len(first) != len(extents) or any(
                a != b and isinstance(a, int) and isinstance(b, int) for a, b in pairs
            ):
                raise ValueError(
                    f"two terms read {name!r} of the {what}, one as (..., {_text(first)}) and one "
                    f"as (..., {_text(extents)}); expected other keys, as most terms take as on=..."
                )
            # A letter stands for any extent, so a number says more.
            together[name] = tuple(b if isinstance(a, str) else a for a, b in pairs)
    return together


def _text(extents: Extents) -> str:
    return ", ".join(map(str, extents)) or "nothing"


def returned(
    given: Term,
    method: str,
    found: Any,
    shape: tuple[Any, ...],
    backend: Backend,
    names: Collection[str] | None = None,
) -> None:
    """Check the arrays by name that a method of a term returned.

    Args:
        given: The term.
        method: The method.
        found: What it returned.
        shape: What each array is to have.
        backend: The backend.
        names: The names there may be, by default any.
    """
    where = f"{type(given).__name__}.{method}"
    if not isinstance(found, Mapping):
        raise TypeError(f"{where} returned {brief(found)}; expected arrays {shape} by name")
    for name, x in found.items():
        if names is not None and name not in names:
            raise ValueError(
                f"{where} returned a loss {name!r}; expected one that the term's weights name: "
                f"{', '.join(map(repr, names)) or 'none'}"
            )
        if getattr(x, "shape", None) is None:
            raise TypeError(f"{where} returned {brief(x)} as {name!r}; expected an array {shape}")
        came = backend.shape(x)
        if len(came) != len(shape) or not all(map(same, came, shape)):
            raise ValueError(f"{where} returned {name!r} of shape {came}; expected {shape}")
        require_equal(f"what {where} returned", came, shape)


def query_losses(given: Term, found: Any, shape: tuple[Any, Any], backend: Backend) -> None:
    """Check what a term said of all queries."""
    if not isinstance(found, QueryLosses):
        raise TypeError(
            f"{type(given).__name__}.query_losses returned {brief(found)}; expected "
            "hungarian_core.terms.QueryLosses"
        )
    returned(given, "query_losses", found.losses, shape, backend, given.weights)
    if found.label_weights is not None:
        labels = {"label_weights": found.label_weights}
        returned(given, "query_losses", labels, shape, backend)


def distinct(given: Term, found: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check that no term before had a cost of the same name."""
    twice = [name for name in found if name in before]
    if twice:
        raise ValueError(
            f"{type(given).__name__} has a cost {twice[0]!r}, as a term before it; expected other "
            "names"
        )
