"""Where a platform's key may lie: the environment, `.streamlit/secrets.toml`, the system's keyring.

One typed for this visit lies in the page's State alone and reaches a job's process through lib/handover.py.
Nothing here writes a key, and none goes into a file, a log, an address or a command of ours.
"""

from __future__ import annotations

import os
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICE = "firsttune"  # under which a key stands in the keyring, the variable's name being the user


def find(variable: str) -> tuple[str, str]:
    """Return a key and where it was found: "environment", "secrets" or "keyring"; ("", "") for none."""
    if not variable:
        return "", ""
    for where, look in (("environment", os.environ.get), ("secrets", _in_secrets), ("keyring", _in_keyring)):
        key = (look(variable) or "").strip()
        if key:
            return key, where
    return "", ""


def _in_secrets(variable: str) -> str | None:
    for folder in (ROOT, Path.home()):
        try:
            text = (folder / ".streamlit" / "secrets.toml").read_text(encoding="utf-8")
            value = tomllib.loads(text).get(variable)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue
        if isinstance(value, str):
            return value
    return None


def _in_keyring(variable: str) -> str | None:
    if find_spec("keyring") is None:
        return None
    keyring = import_module("keyring")
    try:
        value = keyring.get_password(SERVICE, variable)
    except Exception:  # no keyring on this system, or a locked one: each kind fails in its own way
        return None
    return value if isinstance(value, str) else None
