"""The demo's notebooks, copied where they can be changed: the originals stay clean, and a person's changes stay too."""

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
"""The first is the one that is opened."""
_RECORD = ".copied.json"


def source() -> Path:
    """The folder of the notebooks that this version brings. Raises RealtimeError where there is none."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "notebooks", package.parent / "notebooks"):
        if (place / NOTEBOOKS[0]).exists():
            return place
    raise RealtimeError("The demo's notebooks are missing.", code="NoNotebooks", hint="Install rtwidgets again.")


def copy(origin: Path, folder: Path, names: Iterable[str] = NOTEBOOKS) -> str:
    """Brings `folder` up to date: a copy that was never edited follows its original, an edited one stays.

    What was copied is remembered by its hash. Running a notebook counts as no edit: its outputs are left out of the
    hash. Returns one line on what happened.
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
        mine, theirs = folder / name, origin / name
        wanted = _hash(theirs)
        if not mine.exists():
            new.append(name)
        elif (found := _hash(mine)) == wanted:
            copied[name] = wanted
            continue
        elif found == copied.get(name):
            renewed.append(name)
        else:
            edited.append(name)
            continue
        shutil.copyfile(theirs, mine)
        copied[name] = wanted
    record.write_text(json.dumps(copied))
    said = [
        f"{word} {', '.join(found)}"
        for word, found in (("copied", new), ("renewed", renewed), ("kept as you edited it:", edited))
        if found
    ]
    if edited:
        said[-1] += " (remove it to get this version's)"
    return f"{'; '.join(said) or 'as they were'}, in {folder}"


def _hash(path: Path) -> str:
    """Of what a person writes in a notebook; of the whole file where it is none."""
    data = path.read_bytes()
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(data)["cells"]]
        data = json.dumps(cells).encode()
    except (ValueError, KeyError, TypeError):
        pass
    return hashlib.sha256(data).hexdigest()
