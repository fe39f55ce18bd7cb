"""bf16, two bytes a number: where it is quick. Everything else is computed in fp32.

A graphics card says so itself. A processor that has instructions for it is 2.5 to 3 times as fast (LoRA steps
of 50, 148 and 494 million numbers, two cores of an AMD EPYC with AVX512_BF16); one that has none is ten times
as slow. Source: measured 2026-12 and 2026-11, torch 2.13.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

# numbers of a model; smaller ones take minutes either way, and so learn the same on every processor
LEAST = 30_000_000
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
_PROCESSOR = Path("/proc/cpuinfo")  # Linux; other systems do not say without torch


def half(device: str, parameters: int | None) -> bool:
    """Return whether to compute in bf16 with a model of so many numbers; None where they are not known."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and (parameters or 0) >= LEAST and bool(_INSTRUCTIONS & _flags(_PROCESSOR))


@cache
def _flags(told: Path) -> frozenset[str]:
    """Return what the processor can do, in the words of the kernel."""
    try:
        lines = told.read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
