"""A hook of mkdocs: each notebook becomes a page under `tutorials/`, so that what is read is what runs in the tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page(path)))
    return files


def page(path: Path) -> str:
    """A notebook as Markdown: its text, and its code in blocks."""
    parts: list[str] = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = f"```python\n{text}\n```"
        parts.append(text)
    parts.insert(1, f"*This page is the notebook `notebooks/{path.name}`, which `rtwidgets demo` brings along.*")
    # Links from notebook to notebook are links from page to page.
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", "\n\n".join(parts)) + "\n"
