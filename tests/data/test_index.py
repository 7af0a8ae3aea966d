"""Keys and slots, whether they are kept in arrays or in a dict: as a plain dict would have them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.index import Index

KEYS = st.integers(-20, 40) | st.sampled_from([5000, 10**9, 2**62, -(2**63), 2**70, "a", "5", (1, 2), 1.5, None])
OPS = st.lists(
    st.tuples(st.sampled_from(["add", "pop", "rename", "clear"]), st.lists(KEYS, min_size=1, max_size=5)), max_size=25
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(OPS)
def test_any_history_gives_what_a_dict_holds(ops: list[tuple[str, list[Any]]]) -> None:
    index, model = Index(), dict[Any, int]()
    for what, keys in ops:
        if what == "add":
            new = list(dict.fromkeys(key for key in keys if key not in model))
            slots = index.add(new).tolist()
            assert not set(slots) & set(model.values())
            model |= dict(zip(new, slots, strict=True))
        elif what == "pop":
            for key in dict.fromkeys(keys):
                if key in model:
                    assert index.pop(key) == model.pop(key)
        elif what == "rename":
            old, new_key = keys[0], keys[-1]
            if old in model and new_key not in model:
                model[new_key] = index.rename(old, new_key)
                del model[old]
        elif what == "clear" and len(keys) == 1:
            index.clear()
            model.clear()
        asked = [*keys, *model, True, 5.0, "x"]
        assert len(index) == len(model)
        assert sorted(map(repr, index)) == sorted(map(repr, model))
        assert index.find(asked).tolist() == [model.get(key, -1) for key in asked]
        assert [index.get(key) for key in asked] == [model.get(key) for key in asked]
        assert [index.key(slot) for slot in model.values()] == list(model)
        assert max(model.values(), default=-1) < index.end or not model


def test_serial_keys_stay_in_arrays() -> None:
    index = Index()
    for start in range(0, 10_000, 100):
        index.add(list(range(start, start + 100)))
    assert index._dense is not None
    assert index._slots == {}
    index.add(["no number"])
    assert index._dense is None
    assert index.find([0, 9_999, "no number"]).tolist() == [0, 9_999, 10_000]
