"""Extension of the documentation's build: a trait's `help=` text is its docstring."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class TraitHelp(griffe.Extension):
    """Gives attributes that are traits the docstring which `help()` shows."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **options: Any) -> None:
        if attr.docstring is not None or not isinstance(node, ast.Assign | ast.AnnAssign):
            return
        for call in ast.walk(node):
            if not isinstance(call, ast.Call):
                continue
            for keyword in call.keywords:
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    attr.docstring = griffe.Docstring(str(keyword.value.value), lineno=node.lineno, parent=attr)
