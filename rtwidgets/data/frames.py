"""Frames over borrowed memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def _witness() -> Any:
    """A block that never dies (pandas 3 only)."""
    try:
        return pd.DataFrame({"witness": np.zeros(1)})._mgr.blocks[0]  # pyright: ignore[reportAttributeAccessIssue]
    except (AttributeError, IndexError):
        return None


_WITNESS = _witness()


def guard(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes pandas copy a column before it writes to it, for as long as the frame or any frame made from it lives.

    pandas 3 copies on write when a block's memory is known to have another owner. Ours has one that pandas cannot
    see (the
    store), so a block that never dies is named as that owner. Elsewhere (pandas 2 without copy-on-write) writing raises
    "assignment destination is read-only": the arrays are read-only. Either way the table's memory is safe.
    """
    if _WITNESS is not None:
        try:
            for block in frame._mgr.blocks:  # pyright: ignore[reportAttributeAccessIssue]
                block.refs.add_reference(_WITNESS)
        except (AttributeError, TypeError):
            pass
    return frame
