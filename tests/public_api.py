"""The public API as text: ``python -m tests.public_api`` prints it, and ``--write`` puts it into public_api.txt.

A line says what a user may import, call, or read. What a class inherits from another package is not in it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = [
    "wsgisession",
    "wsgisession.flask",
    "wsgisession.django",
    "wsgisession.pyramid",
    "wsgisession.guards",
    "wsgisession.logs",
    "wsgisession.metrics",
    "wsgisession.tracing",
    "wsgisession.observed",
    "wsgisession.moving",
    "wsgisession.testing",
    "wsgisession.stores",
]

FILE = Path(__file__).with_name("public_api.txt")

_SPECIAL = {"__init__", "__call__", "__getitem__", "__setitem__", "__delitem__", "__iter__", "__len__", "__contains__"}


def lines() -> list[str]:
    """Return the lines of all modules."""
    public = {f"{module}.{name}": getattr(importlib.import_module(module), name) for module, name in _names()}
    classes = {value for value in public.values() if inspect.isclass(value)}
    return [line for path in sorted(public) for line in _of_value(path, public[path], classes)]


def _names() -> Iterator[tuple[str, str]]:
    """Return what ``__all__`` names in each module, or else what it defines or passes on from the package."""
    for module in MODULES:
        known = vars(importlib.import_module(module))
        ours = (name for name, value in known.items() if not name.startswith("_") and _is_ours(value))
        yield from ((module, name) for name in known.get("__all__", ours))


def _is_ours(value: Any) -> bool:
    return not inspect.ismodule(value) and str(getattr(value, "__module__", "")).startswith("wsgisession")


def _of_value(path: str, value: Any, classes: set[type]) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {path}({bases})"
        for name in sorted(_members(value, classes)):
            yield f"{path}.{name}{_member(value, name)}"
    elif callable(value) and _is_ours(value):
        yield f"{path}{_signature(value)}"
    else:
        yield f"{path}: {type(value).__name__}"


def _members(cls: type, classes: set[type]) -> set[str]:
    """Return the public attributes that a class defines, with those of bases that are no public classes themselves."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("wsgisession")]
    own = [base for base in own if base is cls or base not in classes]
    found = {name for base in own for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in found if name in _SPECIAL or not name.startswith("_")}


def _member(cls: type, name: str) -> str:
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, (classmethod, staticmethod)):
        return _signature(member.__func__)
    if inspect.isfunction(member):
        return _signature(member)
    if isinstance(member, property):
        return ": property" if member.fset is None else ": property that can be set"
    annotations = [vars(base).get("__annotations__", {}).get(name) for base in cls.__mro__]
    return f": {next(filter(None, annotations), 'attribute')}"


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    return f"({', '.join(_parameters(signature))}) -> {_annotation(signature.return_annotation)}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Return the parameters as they are written, with ``/`` and ``*`` between their kinds."""
    before = None
    for parameter in signature.parameters.values():
        kind = parameter.kind
        if before is parameter.POSITIONAL_ONLY and kind is not before:
            yield "/"
        if kind is parameter.KEYWORD_ONLY and before not in (kind, parameter.VAR_POSITIONAL):
            yield "*"
        before = kind
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(kind, "")
        annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        yield f"{stars}{parameter.name}{annotation}{default}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))


def _default(value: Any) -> str:
    if callable(value):
        return str(value.__name__)
    return repr(value) if type(value).__module__ == "builtins" else type(value).__name__


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        FILE.write_text("".join(f"{line}\n" for line in lines()))
    else:
        print(*lines(), sep="\n")
