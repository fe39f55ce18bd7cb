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


def prepare(*, one_card: bool = True) -> None:
    """Set what libraries read when they are imported; call it before importing any of them.

    The wait policy may be overruled from outside. The rest may not: a trainer never reaches for the network.
    `one_card`: see no graphics card but the first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", WISHED["OMP_WAIT_POLICY"])
    os.environ.update({name: value for name, value in WISHED.items() if name != "OMP_WAIT_POLICY"})
    if one_card:
        see_one_card()
    warnings.filterwarnings("ignore")


def see_one_card() -> None:
    """See no graphics card but the first; call it before anything has woken one.

    With more of them in sight and one process, TRL refuses to train: its loss cannot be dealt out to threads.
    """
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "0" if seen is None else seen.partition(",")[0]


def after_import() -> None:
    """Turn off the progress bars of libraries that are now imported."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def threads(practice: bool, processes: int = 1) -> int:
    """Return how many threads each process computes with: one for the practice model, else a share of cores.

    For a model this small one thread is as fast as two and nothing can slow it. A step of half a billion
    numbers took 3.3 s in two threads and 5.6 s in one, and with both cores busy otherwise 7 s and 9 s:
    threads that sleep while they wait leave the machine its share. Source: measured 2026-11-30, two cores.
    """
    import psutil

    return 1 if practice else max(1, (psutil.cpu_count(logical=False) or 1) // processes)


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
