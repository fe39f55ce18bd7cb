"""The practice model: a toy language model, ours, small enough to be fine-tuned in under a minute.

`model/` holds it; its card (`model/README.md`) says what it knows and how well it learns. `corpus.toml` and
`corpus.py` are what it has read, `pretrain.py` is how it was made.
"""

from pathlib import Path

KNOWN = "known.jsonl"  # in the model's folder: chats like those it was pretrained on, which it never saw


def folder() -> Path:
    """Return the folder with the practice model's weights and tokenizer."""
    return Path(__file__).parent / "model"
