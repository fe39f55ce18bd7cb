"""The bundled sample: whole, varied, in one manner."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from lib import datasets

MANNER = {
    "en": r"The leaves show (?P<image>[^.]+)\. Good for: [^.]+\. Not for: [^.]+\. [^.]+\.",
    "zh": r"\u8336\u53f6\u91cc\u662f(?P<image>[^\u3002]+)\u3002"
    r"\u5b9c[^\u3002\uff0c]+\uff0c\u5fcc[^\u3002\uff0c]+\u3002[^\u3002]+\u3002",
}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_two_hundred_different_records_of_twenty_topics_in_one_manner(lang: str) -> None:
    rows = json.loads((datasets.SAMPLE / f"fortune-{lang}.json").read_text(encoding="utf-8"))
    assert len(rows) == 200
    assert all(list(row) == ["Question", "Complex_CoT", "Response"] for row in rows)
    for name in ("Question", "Complex_CoT", "Response"):
        assert len({row[name] for row in rows}) == 200, name
    images: Counter[str] = Counter()
    for row in rows:
        found = re.fullmatch(MANNER[lang], row["Response"])
        assert found, row["Response"]
        images[found["image"]] += 1
    assert set(images.values()) == {10}
    assert len(images) == 20
