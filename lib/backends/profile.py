"""What differs between the platforms asked over the network: `profiles.toml`, read."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from lib.estimate import Price
from lib.params import Ranges, Settings

FILE = Path(__file__).with_name("profiles.toml")


@dataclass(frozen=True, slots=True)
class Profile:
    """One platform, as its table in `profiles.toml` says it; that file explains the fields."""

    name: str
    shape: str
    label: str
    base: str
    key_variable: str
    target: str
    checked: date
    source: str
    key_page: str = ""
    header: str = "Authorization: Bearer"
    chat: str = ""
    closed: bool = False
    bom: bool = False
    takes_seed: bool = True
    models: tuple[str, ...] = ()
    says: tuple[tuple[str, str], ...] = ()
    jobs: str = ""
    listing: str = ""
    cancel: str = ""
    upload: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    create: Mapping[str, str] = field(default_factory=dict)
    job: Mapping[str, str] = field(default_factory=dict)
    models_at: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    file: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None
    deploy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Its address; `NAME_BASE_URL` in the environment takes its place, for a gateway or a test."""
        return (os.environ.get(f"{self.name.upper()}_BASE_URL") or self.base).rstrip("/")

    @property
    def ranges(self) -> Ranges:
        """The hyperparameters it takes, with least and most."""
        return {name: (float(row["low"]), float(row["high"])) for name, row in self.params.items()}

    @property
    def start(self) -> Settings:
        """The values to start from."""
        return {name: row["start"] for name, row in self.params.items()}


@cache
def profiles() -> dict[str, Profile]:
    """Return every platform by its name, in the file's order."""
    read = tomllib.loads(FILE.read_text(encoding="utf-8"))
    shapes = read.pop("shape")
    return {name: _profile(name, shapes[given["shape"]] | given) for name, given in read.items()}


def dig(value: Any, path: str) -> Any:
    """Return what stands at `a.b.0` in JSON, None where there is nothing or no path."""
    if not path:
        return None
    for step in path.split("."):
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value


def put(value: dict[str, Any], path: str, what: Any) -> None:
    """Set what stands at `a.b` in JSON; at `a[]` a list of just that."""
    *steps, last = path.split(".")
    for step in steps:
        value = value.setdefault(step, {})
    if last.endswith("[]"):
        value[last.removesuffix("[]")] = [what]
    else:
        value[last] = what


def _profile(name: str, given: Mapping[str, Any]) -> Profile:
    known = {one.name for one in fields(Profile)}
    assert given.keys() <= known, f"{name}: {sorted(given.keys() - known)}"
    read: dict[str, Any] = {"models": tuple(given.get("models", ()))}
    read["says"] = tuple(map(tuple, given.get("says", ())))
    if price := given.get("price"):
        whole = {"checked": str(price["checked"]), "models": tuple(price.get("models", ()))}
        read["price"] = Price(**price | whole)
    return Profile(name=name, **(dict(given) | read))
