"""The shape of OpenAI's fine-tuning API, which Nebius, Crusoe, Zhipu, Azure and others speak too.

    POST /files, POST /fine_tuning/jobs, GET /fine_tuning/jobs/ID, …/events, POST …/cancel

All that differs between them is data: lib/backends/profiles.toml.
Source: openai/openai-openapi `openapi.yaml` @f85dbe22, read 2026-11-22.
"""

from __future__ import annotations

from lib.backends.remote import Remote


class OpenAIShaped(Remote):
    """A platform of OpenAI's shape."""
