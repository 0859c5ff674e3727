"""Old public names go on working for one version. Each use of one warns and tells the new name."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def renamed(**new: str) -> Callable[[type[T]], type[T]]:
    """A class decorator: old names of attributes, methods and arguments of the constructor go on working.

    Args:
        new: old name → new name.
    """

    def decorate(cls: type[T]) -> type[T]:
        init: Callable[..., None] = cls.__init__

        @wraps(init)
        def accept(self: Any, *args: Any, **kwargs: Any) -> None:
            for old in new.keys() & kwargs.keys():
                _warn(f"{cls.__name__}({old}=...)", f"{new[old]}=")
                kwargs[new[old]] = kwargs.pop(old)
            init(self, *args, **kwargs)

        cls.__init__ = accept  # type: ignore[method-assign]
        for old, name in new.items():
            setattr(cls, old, _Alias(f"{cls.__name__}.{old}", name))
        return cls

    return decorate


def renamed_in_module(module: str, **new: Any) -> Callable[[str], Any]:
    """A module's `__getattr__` that finds what has another name now.

    Args:
        module: its `__name__`.
        new: old name → what it was the name of.
    """

    def find(name: str) -> Any:
        if name not in new:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{new[name].__module__}.{new[name].__name__}")
        return new[name]

    return find


class _Alias:
    """Gives an attribute under an old name. The class itself has it under the new name only."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        _warn(self.old, self.new)
        return getattr(instance, self.new)


def _warn(old: str, new: str) -> None:
    message = f"{old} is now called {new}; the old name goes with the next version"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
