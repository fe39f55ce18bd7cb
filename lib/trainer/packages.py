"""The packages that training needs and the app does without: which of them are missing."""

from __future__ import annotations

from importlib.util import find_spec

TRAINER = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")  # as requirements.txt has them
SCORES = ("sacrebleu", "rouge_score")  # what scoring needs besides


def missing(*more: str) -> list[str]:
    """Return which packages of the trainer and of `more` are missing; looks without importing any."""
    return [name for name in (*TRAINER, *more) if find_spec(name) is None]
