"""Memory: how much a run takes at least, how much is free, how much is in use. Needs torch for GPUs only."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import orjson
import psutil

from lib.trainer.settings import Settings

HEADER = 100_000_000  # bytes; the safetensors format's own limit
_GROUPS = Path("/sys/fs/cgroup")

# Bytes for each number of a model, at the very least. Training all of it holds the weight, its gradient and
# two averages of AdamW, each in four bytes; an adapter is small beside the weights it stands on.
FULL = 16.0
FROZEN = {"no": 4.0, "8bit": 1.0, "4bit": 0.5}


def parameters(folder: Path) -> int | None:
    """Return how many numbers a model folder holds, from its weights' headers; None where they do not say."""
    try:
        sizes = [_parameters(path) for path in folder.glob("*.safetensors")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None  # not weights, or not whole; loading them will say so
    return sum(sizes) or None


def needed(parameters: int, settings: Settings, *, half: bool) -> float:
    """Return the bytes below which a run cannot be; what it really takes is more, by the rows' length.

    `half`: frozen weights are kept in two bytes.
    """
    if settings.method == "full":
        return parameters * FULL
    each = FROZEN[settings.quantised]
    return parameters * (each / 2 if half and settings.quantised == "no" else each)


def free(device: str) -> int:
    """Return the bytes that a device can still give; the processor's memory with what may be swapped out."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    there = psutil.virtual_memory().available + psutil.swap_memory().free
    return min(there, _left_to_the_group())


def used(device: str) -> int:
    """Return the bytes in use: the most there were at once on a GPU, else what the process holds now."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        import torch

        return int(torch.mps.driver_allocated_memory())
    return int(psutil.Process().memory_info().rss)


def _left_to_the_group() -> int:
    """Return what a container's limit leaves (Linux, cgroup 2); a very large number where there is none."""
    try:
        limit = (_GROUPS / "memory.max").read_text().strip()
        taken = int((_GROUPS / "memory.current").read_text())
        told = dict(line.split() for line in (_GROUPS / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 1 << 62
    if limit == "max":
        return 1 << 62
    # pages of files are given up when memory is asked for
    return max(0, int(limit) - taken + int(told.get("inactive_file", 0)))


def _parameters(path: Path) -> int:
    # a safetensors file: 8 bytes of length, then JSON with every tensor's shape
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER:
            raise ValueError(path)
        header = orjson.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
