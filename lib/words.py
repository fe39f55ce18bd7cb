"""Every sentence a visitor reads, by key and language.

The sentences are in `lib/text/LANGUAGE.toml`; a dotted key names a table and an entry, so that
`say("en", "data.title")` reads `title` in `[data]`. Blanks are filled as `str.format` does, with four
formats of our own: `{n:count}` 1,234; `{size:bytes}` 1.2 MB; `{left:time}` 2 min 5 s; `{part:share}` 10 %.
An entry that is a table with `one` and `other` is chosen by the fact `n`.

To add a language: copy `en.toml` to `xx.toml`, translate it, set `language` to the language's own name.
A test holds every language to the same keys and blanks.
"""

from __future__ import annotations

import string
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from lib.errors import AppError

TEXT = Path(__file__).parent / "text"


@cache
def languages() -> dict[str, str]:
    """Return the languages there are: code -> the language's own name, English first."""
    codes = sorted((path.stem for path in TEXT.glob("*.toml")), key=lambda code: (code != "en", code))
    return {code: catalog(code)["language"] for code in codes}


@cache
def catalog(lang: str) -> dict[str, str]:
    """Return every sentence of a language, flat: `{"data.title": "…", "data.rows.one": "…"}`."""
    return dict(_flat(tomllib.loads((TEXT / f"{lang}.toml").read_text(encoding="utf-8"))))


def language_of(locale: str | None) -> str:
    """Return the language for a browser's locale such as `zh-CN`; English where we have none."""
    code = (locale or "en").split("-")[0].lower()
    return code if code in languages() else "en"


def say(lang: str, key: str, /, **facts: Any) -> str:
    """Return the sentence `key` in `lang` with its blanks filled. A missing key is a bug: KeyError."""
    sentences = catalog(lang)
    if key not in sentences and f"{key}.other" in sentences:
        singular = facts.get("n") == 1 and f"{key}.one" in sentences
        key = f"{key}.one" if singular else f"{key}.other"
    return _Blanks(lang).vformat(sentences[key], (), facts)


def has(key: str) -> bool:
    """Return whether there is a sentence `key`."""
    return key in catalog("en")


def explain(lang: str, error: AppError | dict[str, Any]) -> str:
    """Return the sentence for an error, or for the `{"key", "facts"}` kept in a job folder."""
    told = error.as_json() if isinstance(error, AppError) else error
    key = f"error.{told.get('key')}"
    if not has(key):  # written by a newer version, or by hand
        return say(lang, "error.unknown", name=told.get("key", ""), facts=str(told.get("facts", "")))
    facts = dict(told.get("facts", {}))
    if has(f"reason.{facts.get('reason')}"):  # reasons are keys of their own
        facts["reason"] = say(lang, f"reason.{facts['reason']}")
    if has(f"why.{facts.get('why')}"):
        facts["why"] = say(lang, f"why.{facts['why']}")
    return say(lang, key, **facts)


class _Blanks(string.Formatter):
    """`str.format` with our four formats; a missing fact shows as its own name, never as a crash."""

    def __init__(self, lang: str) -> None:
        self.lang = lang

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        return kwargs.get(key, f"{{{key}}}") if isinstance(key, str) else super().get_value(key, args, kwargs)

    def format_field(self, value: Any, spec: str) -> str:
        if spec not in _FORMATS:
            return str(super().format_field(value, spec))
        return _FORMATS[spec](self.lang, value) if isinstance(value, int | float) else str(value)


def _count(_lang: str, value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def _bytes(_lang: str, value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def _time(lang: str, value: float) -> str:
    seconds = max(0, round(value))
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return say(lang, "unit.hours", h=hours, m=minutes)
    if minutes:
        return say(lang, "unit.minutes", m=minutes, s=seconds % 60)
    return say(lang, "unit.seconds", s=seconds)


def _share(_lang: str, value: float) -> str:
    return f"{value * 100:.3g} %"


_FORMATS = {"count": _count, "bytes": _bytes, "time": _time, "share": _share}


def _flat(table: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in table.items():
        key = f"{before}{name}"
        rows += _flat(value, f"{key}.") if isinstance(value, dict) else [(key, str(value).strip())]
    return rows
