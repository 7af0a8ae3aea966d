"""Keys and slots, whether they are kept in arrays or in a dict: as a plain dict would have them."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtwidgets.data.index import Index
from rtwidgets.data.slot_maps import DenseSlots, DictSlots, UuidSlots

UUIDS = [str(UUID(int=i * (2**64 + 3))) for i in range(40)]
KEYS = st.integers(-20, 40) | st.sampled_from([5000, 10**9, 2**62, -(2**63), 2**70, "a", "5", (1, 2), 1.5, None])
OPS = st.lists(
    st.tuples(st.sampled_from(["add", "pop", "rename", "clear"]), st.lists(KEYS, min_size=1, max_size=5)), max_size=25
)


UUID_KEYS = st.sampled_from([*UUIDS, *UUIDS, UUIDS[1].upper(), UUIDS[2].replace("-", ""), "x" * 36, 7])
UUID_OPS = st.lists(
    st.tuples(st.sampled_from(["add", "pop", "rename", "clear"]), st.lists(UUID_KEYS, min_size=1, max_size=12)),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(OPS | UUID_OPS)
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
    assert isinstance(index._map, DenseSlots)
    index.add(["no number"])
    assert isinstance(index._map, DictSlots)
    assert index.find([0, 9_999, "no number"]).tolist() == [0, 9_999, 10_000]


def test_uuids_stay_in_arrays_while_rows_come_and_go() -> None:
    rng = random.Random(3)
    index, model = Index(), dict[str, int]()
    for _ in range(200):
        new = [str(UUID(int=rng.getrandbits(128))) for _ in range(rng.randrange(1, 60))]
        model |= dict(zip(new, index.add(new).tolist(), strict=True))
        for key in rng.sample(sorted(model), min(len(model), rng.randrange(60))):
            assert index.pop(key) == model.pop(key)
        asked = [*model, *new, str(UUID(int=5))]
        assert index.find(asked).tolist() == [model.get(key, -1) for key in asked]
        assert [index.get(key) for key in asked] == [model.get(key) for key in asked]
    assert isinstance(index._map, UuidSlots)
    assert index.keys(index.find(list(model))) == list(model)
    assert index.get(next(iter(model)).upper()) is None
    index.add(["no uuid"])
    assert isinstance(index._map, DictSlots)
    assert index.find([*model, "no uuid"])[:-1].tolist() == list(model.values())
