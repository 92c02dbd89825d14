"""Find the backend of an array: by name, by instance, or by the array's type.

Adapters are entry points of the group ``hungarian_core.backends``. The name of an
entry point is the root module of its framework's array types, so that resolution
needs no import and no probing: the type of an array says which one to load.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from hungarian_core._backend import Array, Backend
from hungarian_core._conversion import foreign, no_array
from hungarian_core._forks import loading
from hungarian_core._tracing import trace_as_constant

GROUP = "hungarian_core.backends"

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = Backend()
_TITLES = {"torch": "PyTorch", "jax": "JAX", "jaxlib": "JAX", "tensorflow": "TensorFlow"}
_EXTRAS = ("numpy", "torch", "jax", "tensorflow")
# What goes along with the arrays of any framework.
_ADAPTING = (list, tuple, int, float, complex)
_loaded: dict[str, Backend] = {}
_by_type: dict[type, str | None] = {}


def _entry_points() -> dict[str, Any]:
    # Half of the time that `import hungarian_core` would take, and only loading needs it.
    with loading():
        import importlib.metadata

    return {e.name: e for e in importlib.metadata.entry_points(group=GROUP)}


def backends() -> tuple[str, ...]:
    """Return the names of the registered backends whose framework is installed.

    Nothing is imported. An alias (a second root module of one framework) is not listed.

    Examples:
        >>> "numpy" in hc.backends()
        True
    """
    names: dict[str, str] = {}
    for name, entry in sorted(_entry_points().items()):
        if importlib.util.find_spec(name) is not None:
            names.setdefault(entry.value, name)
    return tuple(sorted(names.values()))


def missing() -> dict[str, str]:
    """Return the registered backends whose framework is not installed, and how to install each.

    Of the names of one backend, the first counts; it is not listed if another of them is installed.
    """
    entries, installed = _entry_points(), backends()
    there = {entries[name].value for name in installed}
    names: dict[str, str] = {}
    for name, entry in sorted(entries.items()):
        if entry.value not in there:
            names.setdefault(entry.value, name)
    return {name: remedy(name, entries) for name in sorted(names.values())}


def remedy(name: str, entries: Mapping[str, Any]) -> str:
    """Return the command that installs the framework of a backend."""
    value = entries[name].value
    name = min(other for other, entry in entries.items() if entry.value == value)
    return f'pip install "hungarian-core[{name}]"' if name in _EXTRAS else f"pip install {name}"


def _load(name: str) -> None:
    """Import the adapter `name` into `_loaded`."""
    if name in _loaded:
        return
    entries = _entry_points()
    if not entries:
        raise ValueError("no backends are registered; install the project (pip install -e .)")
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1, cutoff=0.5)
        close = close or [known for known in entries if known in name]
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown backend {name!r}; installed: {', '.join(backends()) or 'none'}.{hint}"
        )
    try:
        with loading():
            backend = entries[name].load()
    except ModuleNotFoundError as error:
        # Only the missing framework is ours to explain; any other import that
        # fails is a defect elsewhere and must be seen as it is.
        if error.name != name:
            raise
        title = _TITLES.get(name, name)
        raise ImportError(
            f"backend {name!r} needs {title}: {remedy(name, entries)}", name=error.name
        ) from error
    if not isinstance(backend, Backend):
        raise TypeError(
            f"entry point {name!r} of group {GROUP!r} is a {type(backend).__name__}; "
            "expected an instance of hungarian_core.Backend"
        )
    _loaded[name] = backend


def _root_of(kind: type) -> str | None:
    """Return the adapter that an array type belongs to, loaded; "" for what adapts to others."""
    if kind in _by_type:
        return _by_type[kind]
    known = _entry_points()
    roots = (base.__module__.partition(".")[0] for base in kind.__mro__)
    root = "" if issubclass(kind, _ADAPTING) else next((r for r in roots if r in known), None)
    if root:
        _load(root)
    _by_type[kind] = root
    return root


# torch.compile reads a dict once, when tracing starts; so these functions must have run before the
# dict is read.
for _step in (_load, _root_of):
    trace_as_constant(_step)


def _named(name: str) -> Backend:
    _load(name)
    return _loaded[name]


def registered(backend: Backend) -> bool:
    """Say whether this is the instance that is registered by its name."""
    if backend.name in _loaded:
        return _loaded[backend.name] is backend
    # An adapter may be imported before anything resolves to it.
    entry = _entry_points().get(backend.name)
    if entry is None or entry.value.partition(":")[0] not in sys.modules:
        return False
    _load(backend.name)
    return _loaded[backend.name] is backend


def restored(name: str) -> Backend:
    """Return the registered backend of a name: what one becomes that was pickled."""
    return _named(name)


def get_backend(backend: str | Backend | None = None, /, *arrays: Array, **named: Array) -> Backend:
    """Return the backend to compute with.

    Args:
        backend: A registered name, an instance, or None to go by the arrays' types.
        *arrays: The arrays of the call. Lists and numbers, NumPy's too, adapt to the others; if
            there is nothing else, NumPy takes them.
        **named: The same, with the names that an error message should use.

    Raises:
        TypeError: What came by a name is no array at all, such as a dictionary or a module.
        ValueError: The name is unknown, an array's type is unknown, or the arrays
            belong to two frameworks.
        ImportError: The framework of the backend is not installed.

    Examples:
        >>> hc.get_backend(None, np.ones(3))
        <NumPyBackend 'numpy'>
        >>> hc.get_backend("numpy").namespace(np.ones(3)).__name__
        'array_api_compat.numpy'
    """
    if backend is not None:
        for name, x in named.items():
            _check(name, x)
        if isinstance(backend, Backend):
            return backend
        if isinstance(backend, str):
            return _named(backend)
        raise ValueError(
            f"backend is a {type(backend).__name__}; expected a name such as 'torch', "
            "an instance of hungarian_core.Backend, or None"
        )
    found: Backend | None = None
    for x in (*arrays, *named.values()) if arrays else named.values():
        if x is None:
            continue
        root = _root_of(type(x))
        if not root:
            for name, y in named.items():
                _check(name, y)
            if root is None:
                raise ValueError(_unknown_type(_label(x, arrays, named), x))
            continue
        # NumPy's numbers and arrays () are numbers, as Python's are.
        if root == "numpy" and not x.ndim:
            continue
        candidate = _loaded[root]
        if found is None:
            found, first = candidate, x
        elif candidate is not found:
            raise ValueError(
                f"{_label(first, arrays, named)} is a {found.name} array and "
                f"{_label(x, arrays, named)} a {candidate.name} array; "
                "pass arrays of one framework or choose backend="
            )
    return _named("numpy") if found is None else found


def _check(name: str, x: Array) -> None:
    """Raise if what came by a name is no array at all, whatever the backend."""
    if x is None or isinstance(x, (bool, int, float)):  # Dynamo's symbols, too
        return
    if not hasattr(x, "__array__"):
        said = no_array(x)  # no walrus here: AutoGraph warns of what it cannot rewrite
        if said is not None:
            raise TypeError(f"{name}: {said}")


def _label(x: Array, arrays: tuple[Array, ...], named: Mapping[str, Array]) -> str:
    """Return what an argument is to be called."""
    labels = [*((f"argument {k}", y) for k, y in enumerate(arrays)), *named.items()]
    return next(label for label, y in labels if y is x)


def backend_of(x: Array) -> Backend:
    """Return the backend of a result, which has the defaults if it came from an instance."""
    root = _root_of(type(x))
    return _loaded[root] if root else _DEFAULTS


def without_gradient(x: Any, backend: Backend) -> Any:
    """Return what a user passed, to be converted to a constant of `backend`.

    An array of another framework may require a gradient, with which NumPy cannot read it.
    """
    root = _root_of(type(x))
    return _loaded[root].stop_gradient(x) if root and root != backend.name else x


def _unknown_type(label: str, x: Array) -> str:
    if not _entry_points():
        return "no backends are registered; install the project (pip install -e .)"
    kind, how = type(x), foreign(x)
    return (
        f"{label} is a {kind.__module__}.{kind.__qualname__}, which no backend knows; "
        f"installed: {', '.join(backends())}. "
        + (f"Convert it ({how}), or choose backend=" if how else "Convert it, or choose backend=")
    )


def bind(function: F, backend: Backend) -> F:
    """Return `function` with `backend` in place of None: how an adapter makes its front door.

    The result is a function of the module that calls this, under the name of `function`: as a
    global of that name it can be pickled, as any function can.

    Examples:
        >>> assign = hc.bind(hc.assign, hc.get_backend("numpy"))
        >>> assign([[4.0, 1.0], [2.0, 0.0]]).col4row
        array([1, 0])
    """

    @functools.wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("backend")
        return function(*args, **{**kwargs, "backend": backend if given is None else given})

    bound.__module__ = sys._getframe(1).f_globals.get("__name__", bound.__module__)
    bound.__qualname__ = bound.__name__
    return cast(F, bound)
