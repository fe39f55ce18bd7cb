"""Words: formats, plurals, errors in every language."""

from __future__ import annotations

import pytest

from lib import words
from lib.errors import HubError


@pytest.mark.parametrize(
    ("spec", "value", "shown"),
    [
        ("count", 1234567, "1,234,567"),
        ("count", 3.5, "3.50"),
        ("bytes", 999, "999 B"),
        ("bytes", 1_250_000, "1.2 MB"),
        ("bytes", 250_000_000_000, "250 GB"),
        ("time", 59.6, "1 min 0 s"),
        ("time", 3725, "1 h 2 min"),
        ("share", 0.1, "10 %"),
    ],
)
def test_blanks_are_formatted_for_people(
    spec: str, value: float, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(words.catalog("en"), "test.blank", f"{{value:{spec}}}")
    assert words.say("en", "test.blank", value=value) == shown


def test_one_and_many_are_told_apart() -> None:
    one = words.say("en", "data.fetch", n=1, size=10)
    assert "1 file " in one
    assert "2 files" in words.say("en", "data.fetch", n=2, size=10)


def test_a_browser_locale_chooses_the_language() -> None:
    assert words.language_of("zh-CN") == "zh"
    assert words.language_of("zh-Hant-TW") == "zh"
    assert words.language_of("fr-FR") == "en"
    assert words.language_of(None) == "en"


def test_an_error_is_said_in_every_language_with_its_facts() -> None:
    error = HubError("workspace.bad_name", name="a|b")
    told = {words.explain(lang, error) for lang in words.languages()}
    assert len(told) == len(words.languages())
    assert all("a|b" in sentence for sentence in told)


def test_an_error_from_a_newer_version_still_shows() -> None:
    assert "nova" in words.explain("en", {"key": "nova.unheard_of", "facts": {"a": 1}})


def test_a_fact_with_braces_is_shown_as_it_is() -> None:
    assert "{x}" in words.explain("en", HubError("workspace.bad_name", name="{x}"))
