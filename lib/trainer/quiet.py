"""Set the process up before torch and transformers are imported: threads, no network, a readable log."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings

# PASSIVE: threads that wait for one another sleep instead of spinning. With anything else busy on the
# machine, spinning makes a step 6 to 24 times slower. Source: measured 2026-11, torch 2.13, two cores.
WISHED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
}


def prepare() -> None:
    """Set what libraries read when they are imported; call it before importing any of them.

    The wait policy may be overruled from outside. The rest may not: a trainer never reaches for the network.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", WISHED["OMP_WAIT_POLICY"])
    os.environ.update({name: value for name, value in WISHED.items() if name != "OMP_WAIT_POLICY"})
    if "WORLD_SIZE" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = first_gpu(os.environ.get("CUDA_VISIBLE_DEVICES"))
    warnings.filterwarnings("ignore")


def first_gpu(visible: str | None) -> str:
    """Return the one GPU that a process uses which nobody started as one of several.

    With more of them visible TRL refuses to train: its loss cannot be dealt out to threads.
    """
    return "0" if visible is None else visible.partition(",")[0]


def after_import() -> None:
    """Turn off the progress bars of libraries that are now imported."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def threads(practice: bool) -> int:
    """Return how many threads to compute with: one for the practice model, else one for each core.

    For a model this small one thread is as fast as two and nothing can slow it. A step of half a billion
    numbers took 3.3 s in two threads and 5.6 s in one, and with both cores busy otherwise 7 s and 9 s:
    threads that sleep while they wait leave the machine its share. Source: measured 2026-11-30, two cores.
    """
    import psutil

    return 1 if practice else psutil.cpu_count(logical=False) or 1


def keep_memory() -> None:
    """Let the C library keep freed memory for the next step instead of giving it back (glibc only).

    A quarter of a small model's step was spent asking for the same megabytes again. Source: measured 2026-11:
    60 steps of lib/practice/pretrain.py 17 s without, 13 s with. For the practice model only: a large one
    should give back what it can.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
