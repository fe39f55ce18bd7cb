"""The one shape every dataset is converted to: a conversation of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is one of `ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one record, in order."""

    messages: tuple[Message, ...]

    def as_json(self) -> dict[str, Any]:
        """Return `{"messages": [{"role", "content"}, …]}`, one line of a chat JSONL file."""
        return {"messages": [{"role": m.role, "content": m.content} for m in self.messages]}

    def first(self, role: str) -> str:
        """Return the first message of `role`, or an empty string."""
        return next((m.content for m in self.messages if m.role == role), "")
