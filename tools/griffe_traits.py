"""An extension of the site's reference: a trait is documented by its `help=`, which notebooks show as well."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class TraitHelp(griffe.Extension):
    """Gives each attribute that is `Trait(..., help="text")` this text as its docstring, unless it has one."""

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        value = getattr(node, "value", None)
        if attr.docstring is None and isinstance(value, ast.Call):
            for keyword in value.keywords:
                text = keyword.value
                if keyword.arg == "help" and isinstance(text, ast.Constant) and isinstance(text.value, str):
                    attr.docstring = griffe.Docstring(text.value[:1].upper() + text.value[1:], parent=attr)
