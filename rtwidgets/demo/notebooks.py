"""Copies the demo's notebooks to where they can be edited, and keeps edits when a new version brings others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from rtwidgets.protocol.errors import RealtimeError

NOTEBOOKS = (
    "flight_board.ipynb",
    "guest.ipynb",
    "support_chat.ipynb",
    "broadcast_presence_changes.ipynb",
    "cursors.ipynb",
    "what_goes_wrong.ipynb",
    "policies.ipynb",
    "connect_to_supabase.ipynb",
)
"""The demo opens the first."""
_RECORD = ".copied.json"


def source() -> Path:
    """The folder of this version's notebooks. Raises RealtimeError where there is none."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "notebooks", package.parent / "notebooks"):
        if (place / NOTEBOOKS[0]).exists():
            return place
    raise RealtimeError("The demo's notebooks are missing.", code="NoNotebooks", hint="Install rtwidgets again.")


def copy(origin: Path, folder: Path, names: Iterable[str] = NOTEBOOKS) -> str:
    """Updates `folder`: a copy that was never edited is replaced by the new original, an edited one stays.

    A record of hashes tells them apart. Running a notebook is no edit: its outputs are not part of the hash. Returns
    one line on what happened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _RECORD
    try:
        copied: dict[str, str] = json.loads(record.read_text())
    except (OSError, ValueError):
        copied = {}
    new: list[str] = []
    renewed: list[str] = []
    edited: list[str] = []
    for name in names:
        copied_file, original = folder / name, origin / name
        wanted = _hash(original)
        if not copied_file.exists():
            new.append(name)
        elif (found := _hash(copied_file)) == wanted:
            copied[name] = wanted
            continue
        elif found == copied.get(name):
            renewed.append(name)
        else:
            edited.append(name)
            continue
        shutil.copyfile(original, copied_file)
        copied[name] = wanted
    record.write_text(json.dumps(copied))
    parts = [
        f"{word} {', '.join(found)}"
        for word, found in (("copied", new), ("renewed", renewed), ("kept as you edited it:", edited))
        if found
    ]
    if edited:
        parts[-1] += " (remove it to get this version's)"
    return f"{'; '.join(parts) or 'as they were'}, in {folder}"


def _hash(path: Path) -> str:
    """Of the cells' sources; of the whole file where it is no notebook."""
    data = path.read_bytes()
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(data)["cells"]]
        data = json.dumps(cells).encode()
    except (ValueError, KeyError, TypeError):
        pass
    return hashlib.sha256(data).hexdigest()
