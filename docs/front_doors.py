"""The names of an adapter, with signatures and docstrings, read from its source.

The documentation is built where no framework is installed, so no adapter can be imported. What a
front door has of `hungarian_core`, such as a signature, is taken from there.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, NamedTuple

BACKENDS = Path(__file__).resolve().parents[1] / "backends"


class Entry(NamedTuple):
    """What the index says of a name."""

    kind: str  # a directive of Sphinx, or "same" for what is another package's
    name: str
    signature: str
    text: str
    methods: tuple[Entry, ...] = ()


def entries(module: str) -> dict[str, Entry]:
    """Return what is defined in a module of an adapter, or imported from the adapter, by name."""
    path = BACKENDS / module.replace(".", "/")
    tree = ast.parse(
        (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    )
    found: dict[str, Entry] = {}
    space: dict[str, Any] = {"backend": None}
    for node in tree.body:
        match node:
            case ast.Import(names=[ast.alias(name="hungarian_core")]):
                _run(node, space)
            case ast.ImportFrom(module=source, names=names) if source:
                if source.startswith("hungarian_core"):
                    _run(node, space)
                    found |= {
                        alias.asname or alias.name: Entry("same", alias.name, "", source)
                        for alias in names
                    }
                elif source.startswith(f"{module}."):
                    others = entries(source)
                    found |= {a.name: others[a.name] for a in names if a.name in others}
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="bind"))):
                found[name] = _of_core(name, node.value.args[0], space)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute()) if name[0] != "_":
                found[name] = _of_core(name, node.value, space)
            case ast.Assign(targets=[ast.Name(id="backend")]):
                found["backend"] = Entry("data", "backend", "", "The backend, as others take it.")
            case ast.FunctionDef(name=name) if name[0] != "_":
                found[name] = _function(node, space)
            case ast.ClassDef(name=name) if name[0] != "_":
                found[name] = _class(node, space)
    return found


def listed(module: str) -> list[str]:
    """Return `__all__` of a module of an adapter."""
    path = BACKENDS / module.replace(".", "/")
    tree = ast.parse(
        (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    )
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise LookupError(f"{module} has no __all__")


def _run(node: ast.stmt, space: dict[str, Any]) -> None:
    exec(compile(ast.Module([node], []), "<front door>", "exec"), space)


def _value(node: ast.expr, space: dict[str, Any]) -> Any:
    """Return what an expression of names stands for, or None where it is of a framework."""
    try:
        return eval(compile(ast.Expression(node), "<front door>", "eval"), space)
    except (AttributeError, NameError):
        return None


def signature(function: Any) -> str:
    """Return a signature without annotations, which the docstrings say better, and without self."""
    found = inspect.signature(function)
    parameters = [
        p.replace(annotation=p.empty)
        for p in found.parameters.values()
        if p.name not in ("self", "cls")
    ]
    text = str(found.replace(parameters=parameters, return_annotation=found.empty))
    return text.replace("=Ellipsis", "=...")  # as stubs have it: there is a default


def _of_core(name: str, node: ast.expr, space: dict[str, Any]) -> Entry:
    function = _value(node, space)
    first = inspect.getdoc(function).partition("\n")[0]
    home = "hungarian_core.hnet" if "hnet" in function.__module__ else "hungarian_core"
    text = f"{first}\n\nSee :py:func:`{home}.{name}`."
    return Entry("function", name, signature(function), text)


def _function(node: ast.FunctionDef, space: dict[str, Any], kind: str = "function") -> Entry:
    """Return the entry of a function, which is run with its own signature and an empty body."""
    text = ast.get_docstring(node) or ""
    kept = [d for d in node.decorator_list if "passing_on" in ast.unparse(d)]
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    bare = ast.FunctionDef(node.name, node.args, [ast.Pass()], kept, None, type_params=[])
    within = dict(space)
    _run(ast.fix_missing_locations(bare), within)
    return Entry(kind, node.name, signature(within[node.name]), text)


def _class(node: ast.ClassDef, space: dict[str, Any]) -> Entry:
    base = next((b for b in (_value(x, space) for x in node.bases) if inspect.isclass(b)), None)
    shown, methods = "()", []
    if base is not None:
        shown = signature(base)
        for name in ("preset", "costs"):
            if hasattr(base, name):
                said = (inspect.getdoc(getattr(base, name)) or "").partition("\n")[0]
                kind = "classmethod" if name == "preset" else "method"
                methods.append(Entry(kind, name, signature(getattr(base, name)), said))
    for item in node.body:
        match item:
            case ast.FunctionDef(name="__init__"):
                shown = _function(item, space).signature
            case ast.FunctionDef(name=name) if name[0] != "_" and ast.get_docstring(item):
                kinds = [ast.unparse(d) for d in item.decorator_list]
                kind = "classmethod" if "classmethod" in kinds else "method"
                methods.append(_function(item, space, kind))
            case ast.Assign(targets=[ast.Name(id="forward")]):
                said = (
                    f"Call the loss, as an instance of :py:class:`hungarian_core.{base.__name__}`."
                )
                methods.append(Entry("method", "forward", signature(base.__call__), said))
    return Entry("class", node.name, shown, ast.get_docstring(node) or "", tuple(methods))
