"""Fireworks AI's shape: resources with long names, camelCase, a data set made before its file is sent.

Source: fw-ai-external/python-sdk `api.md` @8399c12, docs.fireworks.ai/api-reference, read 2026-11-22.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.backends.remote import Remote
from lib.backends.wire import Wire


class FireworksShaped(Remote):
    """Fireworks AI. Names are whole, `accounts/ACCOUNT/datasets/ID`; a job's id here is the last part."""

    def upload(self, wire: Wire, file: Path, told: Callable[[int, int], None]) -> str:
        """Make a data set, send its file, and return its whole name."""
        name = f"firsttune-{file.stem}-{secrets.token_hex(4)}"
        with file.open("rb") as lines:
            rows = sum(1 for _ in lines)
        made = wire.post(
            "/datasets", {"datasetId": name, "dataset": {"userUploaded": {}, "exampleCount": str(rows)}}
        )
        how = self.profile.upload
        wire.upload(how["path"].format(id=name), file, field=how["file"], fields=how["fields"], told=told)
        return self.named(wire, made, "name")

    def request(self, asked: dict[str, Any], files: dict[str, str], suffix: str) -> dict[str, Any]:
        """Return what starts a job; the tuned model gets a name of ours."""
        body = super().request(asked, files, suffix)
        account = files["train"].partition("/datasets/")[0]
        return body | {"outputModel": f"{account}/models/{suffix}"}

    def submit(self, wire: Wire, body: dict[str, Any]) -> str:
        """Start a job and return the last part of its name."""
        return super().submit(wire, body).rpartition("/")[2]

    def find(self, wire: Wire, files: dict[str, str]) -> str:
        """Return the last part of the name of the job with our training file."""
        return super().find(wire, files).rpartition("/")[2]

    def word(self, raw: Any) -> str:
        """Return a state's own word: it comes with and without its prefix."""
        return super().word(raw).removeprefix("JOB_STATE_")

    def listed(self) -> dict[str, Any]:
        """Return how to ask for the list of jobs."""
        return {"pageSize": 100}
