"""Where a platform's key is looked for, and in which order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lib import keys


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project and a home without a key, and no keyring."""
    monkeypatch.setitem(sys.modules, "keyring", None)  # so that what a test imports is taken away after it
    del sys.modules["keyring"]
    for name in ("project", "home"):
        (tmp_path / name / ".streamlit").mkdir(parents=True)
    monkeypatch.setattr(keys, "ROOT", tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path


def keyring(places: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Install a keyring for this test: a package of that name, as the system's would be."""
    (places / "installed").mkdir()
    (places / "installed" / "keyring.py").write_text(f"def get_password(service, user):\n    {body}\n")
    monkeypatch.syspath_prepend(str(places / "installed"))


def test_the_environment_comes_before_the_file_before_the_keyring(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys.find("NEBIUS_API_KEY") == ("", "")
    assert keys.find("") == ("", "")
    keyring(places, monkeypatch, "return f'{service} {user}'")
    assert keys.find("NEBIUS_API_KEY") == ("firsttune NEBIUS_API_KEY", "keyring")
    home = places / "home" / ".streamlit" / "secrets.toml"
    home.write_text('NEBIUS_API_KEY = " of home "\n', encoding="utf-8")
    assert keys.find("NEBIUS_API_KEY") == ("of home", "secrets")
    project = places / "project" / ".streamlit" / "secrets.toml"
    project.write_text('NEBIUS_API_KEY = "of the project"\nOTHER = 7\n', encoding="utf-8")
    assert keys.find("NEBIUS_API_KEY") == ("of the project", "secrets")
    monkeypatch.setenv("NEBIUS_API_KEY", "of the environment")
    assert keys.find("NEBIUS_API_KEY") == ("of the environment", "environment")


def test_what_cannot_be_read_is_passed_over(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "project" / ".streamlit" / "secrets.toml").write_bytes(b"NEBIUS_API_KEY = \xff")
    (places / "home" / ".streamlit" / "secrets.toml").write_text("not TOML", encoding="utf-8")
    assert keys.find("NEBIUS_API_KEY") == ("", "")
    keyring(places, monkeypatch, "raise RuntimeError('locked')")
    assert keys.find("NEBIUS_API_KEY") == ("", "")
