"""Objects that show what they were made with, as the call that makes them."""

from __future__ import annotations

import builtins
import functools
import inspect
import numbers
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hungarian_core import _options
from hungarian_core._backend import Backend

F = TypeVar("F", bound=Callable[..., Any])


class Configured:
    """An object whose `repr` is the call that makes it, without what the defaults make anyway.

    A subclass needs nothing but an `__init__`: what it is called with is noted.
    """

    # The call that made the object, by position and by name.
    _made_with: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _noting(cls.__init__)  # type: ignore[method-assign]  # of its signature

    def __repr__(self) -> str:
        return f"{type(self).__name__}({written(settings(self))})"


def _noting(init: Callable[..., None]) -> Callable[..., None]:
    """Return an `__init__` that notes what it gets, and says what was meant by a name unknown."""
    parameters = inspect.signature(init).parameters
    known, passes_on = tuple(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @functools.wraps(init)
    def __init__(self: Configured, *args: Any, **options: Any) -> None:  # noqa: N807  (is one)
        for name in options:
            if name not in known and not passes_on:
                _options.options(type(self).__name__, init, options)
        if self._made_with is None:  # the outermost call is the user's
            self._made_with = args, options
        init(self, *args, **options)

    return __init__


def settings(x: Configured) -> dict[str, Any]:
    """Return the arguments that an object was made with and that are not the defaults, by name.

    A number or a name that the object has as an attribute is that of now.
    """
    if x._made_with is None:  # made without a call, as by a subclass's `__new__`
        return {}
    args, options = x._made_with
    given = inspect.signature(type(x)).bind(*args, **options)
    given.apply_defaults()
    for name, value in given.arguments.items():
        now = vars(x).get(name, value)
        if _is_plain(value) and _is_plain(now):
            given.arguments[name] = now
    return changed(type(x), given.arguments)


def changed(made_by: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments of a function that are not its defaults."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(made_by).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= arguments.get(name, {})
        elif not _same(arguments[name], parameter.default):
            found[name] = arguments[name]
    return found


def written(arguments: Mapping[str, Any]) -> str:
    """Return arguments as a call has them, long ones cut short."""
    return ", ".join(f"{name}={_TEXT.repr(x)}" for name, x in arguments.items())


def _is_plain(x: Any) -> bool:
    return isinstance(x, (numbers.Number, str))


def _same(x: Any, default: Any) -> bool:
    if isinstance(x, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(x) == len(default) and all(map(_same, x, default))
    # Arrays would compare by entries.
    return x is default or (_is_plain(x) and _is_plain(default) and bool(x == default))


class _Text(reprlib.Repr):
    """The texts of arguments: functions by their names, arrays by their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = 8

    def repr_dict(self, x: Any, level: int) -> str:
        if level <= 0 or len(x) > self.maxdict:
            return f"{{...{len(x)} entries}}"
        pairs = (f"{self.repr1(k, level - 1)}: {self.repr1(y, level - 1)}" for k, y in x.items())
        return "{" + ", ".join(pairs) + "}"  # in their order, and not sorted

    def repr_instance(self, x: Any, level: int) -> str:
        if inspect.isroutine(x) or inspect.isclass(x):
            return str(x.__qualname__)
        if isinstance(x, (Configured, Backend)):
            return builtins.repr(x)
        if hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, numbers.Number):
            return f"<{x.dtype} array {tuple(x.shape)}>"
        text = builtins.repr(x)
        return text if len(text) <= self.maxother else f"<{type(x).__qualname__}>"


_TEXT = _Text()


def passing_on(made_by: Callable[..., Any], *but: str, defaults: bool = True) -> Callable[[F], F]:
    """Return a decorator of a function that passes its ``**options`` on: its signature names them.

    Args:
        made_by: What takes the options as arguments.
        *but: Arguments that are not passed on.
        defaults: Whether the defaults are those of `made_by`, and not something else (``...``).
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [*signature.parameters.values()][:-1]
        names = {*(p.name for p in own), *but}
        passed = [
            p.replace(kind=p.KEYWORD_ONLY, default=p.default if defaults else ...)
            for p in inspect.signature(made_by).parameters.values()
            if p.name not in names
        ]
        signature = signature.replace(parameters=[*own, *passed])
        function.__signature__ = signature  # type: ignore[attr-defined]  # which functions take
        return function

    return decorate
