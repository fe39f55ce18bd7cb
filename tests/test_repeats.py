"""What came before is found, with where it came first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lib.repeats import repeats


@given(st.lists(st.integers(0, 9), max_size=60))
def test_each_later_place_is_told_with_the_first(values: list[int]) -> None:
    later, first = repeats(np.array(values, dtype=np.uint64))
    seen: dict[int, int] = {}
    expected = [
        (place, seen[value]) for place, value in enumerate(values) if seen.setdefault(value, place) != place
    ]
    assert list(zip(later.tolist(), first.tolist(), strict=True)) == expected
