"""A hook of mkdocs that adds pages which are not under docs/: notebooks, files of the root, specifications of machines.

Links in docs/ lead to where a file is in the repository (`../notebooks/policies.ipynb`, `../CONTRIBUTING.md`), so that
they work in a clone and on a forge. The hook turns them into links to the pages of the site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
SPECIFICATIONS = sorted((ROOT / "rtwidgets").rglob("*.md"))
ROOT_PAGES = ("CONTRIBUTING", "CHANGELOG", "SECURITY", "CODE_OF_CONDUCT")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=notebook(path)))
    for name in ROOT_PAGES:
        files.append(File.generated(config, f"{name.lower()}.md", content=root_page((ROOT / f"{name}.md").read_text())))
    for path in SPECIFICATIONS:
        files.append(File.generated(config, f"machines/{path.stem}.md", content=path.read_text()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrites the links of a page of docs/ that lead out of it: one `../` fewer, because the pages are inside."""
    names = "|".join(ROOT_PAGES)
    markdown = re.sub(r"\]\(\.\./rtwidgets/[\w/]+/(\w+\.md)", r"](machines/\1", markdown)
    markdown = re.sub(r"\]\(\.\./((?:\.\./)*)notebooks/(\w+)\.ipynb\)", r"](\1tutorials/\2.md)", markdown)
    return re.sub(
        rf"\]\(\.\./((?:\.\./)*)({names})\.md(#[\w-]+)?\)",
        lambda link: f"]({link[1]}{link[2].lower()}.md{link[3] or ''})",
        markdown,
    )


def notebook(path: Path) -> str:
    """A notebook as Markdown: its text, and its code in blocks."""
    parts: list[str] = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = f"```python\n{text}\n```"
        parts.append(text)
    parts.insert(1, f"*This page is the notebook `notebooks/{path.name}`; `rtwidgets demo` opens it in JupyterLab.*")
    # Links from notebook to notebook become links from page to page.
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", "\n\n".join(parts)) + "\n"


def root_page(text: str) -> str:
    """A file of the repository's root as a page beside those of docs/."""
    names = "|".join(ROOT_PAGES)
    text = re.sub(rf"\]\(({names})\.md", lambda link: f"]({link[1].lower()}.md", text)
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\]\(notebooks/(\w+)\.ipynb", r"](tutorials/\1.md", text)
    # What has no page stays as text.
    return re.sub(r"\[([^\]]+)\]\((?!\w+:|#|[\w/]+\.md)[^)]+\)", r"\1", text)
