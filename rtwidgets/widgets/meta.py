"""What `help()`, Shift-Tab and `?` show of a widget class: its constructor's signature and its traits' texts."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import traitlets


class DocumentedMeta(traitlets.MetaHasTraits):
    """Gives a class the signature of its `__init__`, shows each trait's `help=`, and refuses unknown arguments."""

    def __init__(cls, name: str, bases: tuple[type, ...], classdict: dict[str, Any], **kwds: Any) -> None:
        super().__init__(name, bases, classdict, **kwds)
        for value in classdict.values():
            if isinstance(value, traitlets.TraitType) and value.help:
                value.__doc__ = value.help

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        parameters = cls.__signature__.parameters
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            for name in kwargs.keys() - parameters.keys():
                raise TypeError(f"rt.{cls.__name__} has no argument {name!r}: {_suggestion(cls, name, [*parameters])}")
        return super().__call__(*args, **kwargs)


def _suggestion(cls: Any, name: str, parameters: list[str]) -> str:
    if name in cls.class_trait_names():
        return f"it is a trait, set it once the widget is made (.{name} = ...)"
    close = difflib.get_close_matches(name, parameters, 1)
    return f"did you mean {close[0]!r}?" if close else f"its arguments are {', '.join(parameters)}"
