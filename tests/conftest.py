"""What every test gets: a workspace of its own, and no network but loopback."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib import convert, formats
from tests.practised import practised
from tests.processes import nothing_left
from tests.tiny import tiny, tokenizer, whole

# as in the trainer's own processes (lib/trainer/quiet.py); torch reads it when it is first imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["nothing_left", "practised", "tiny", "tokenizer", "whole"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the workspace to a folder of this test, with a space and Chinese in its name."""
    home = tmp_path_factory.mktemp("ws") / "my work \u5de5\u4f5c"
    monkeypatch.setenv("FIRSTTUNE_HOME", str(home))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "SILICONFLOW_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Refuse every connection that would leave this computer."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _loopback(address[0]):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded)
    # children are held to it by their proxies leading nowhere
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        patch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        patch.setenv(name, "127.0.0.1,localhost,::1")
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield
    patch.undo()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture
def any_conversion(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that converts a few of the sample's records into a folder of this test."""

    def made(rows: int = 120) -> Path:
        sample = json.loads((ROOT / "lib" / "sample" / "fortune-en.json").read_text(encoding="utf-8"))[:rows]
        source, out = tmp_path / "some.json", tmp_path / "some data"
        source.write_text(json.dumps(sample), encoding="utf-8")
        mapping = formats.Mapping("qa", {"user": "Question", "assistant": "Response"})
        convert.convert(convert.Request((source,), out, mapping))
        return out

    return made
