"""Several processes that train one model, one for each graphics card: the first leads, the others follow.

The leader is the job's own process. It holds the folder, reports, saves, listens for a stop, and decides. A
follower takes the same steps with its share of every batch; it writes nothing and decides nothing, so nobody
has to agree on a stop or a checkpoint: a follower lives as long as the leader holds its standard input open.
What a follower cannot go on for, it says in one line on its standard output, and that ends the run.

All of them are on this computer, and talk over its loopback address alone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import orjson

from lib.errors import AppError, ModelError
from lib.jobfolder import JobFolder
from lib.trainer.settings import Settings

PATIENCE = timedelta(hours=1)  # of processes for one another: one may save a large model meanwhile
ECHO = 5.0  # seconds from an error in one process until another, that has caused it, has told
HANGING = 15.0  # seconds until a leader that waits for a follower that has gone is taken to wait for ever


@dataclass(frozen=True, slots=True)
class Rank:
    """A process's place among `of`; rank 0 leads, and listens for the others at `door`, a loopback `port`."""

    number: int = 0
    of: int = 1
    port: int = 0
    door: socket.socket | None = field(default=None, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that decides."""
        return self.number == 0


ALONE = Rank()


def cards() -> int:
    """Return how many processes this computer's graphics cards are good for: one for each, at least one."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_nccl_available()):
        return 1
    return max(1, torch.cuda.device_count())  # does not wake the cards: which are seen can still be changed


def dealt(settings: Settings, most: int) -> tuple[int, Settings]:
    """Return how many of at most `most` processes can share a step evenly, and the settings of each.

    A step learns from as many rows as before, `batch_size` x `accumulation`, so the learning rate keeps its
    meaning; no process takes more rows at a time than the batch size says.
    """
    rows, batch_size = settings.batch_size * settings.accumulation, settings.batch_size
    processes = max(number for number in range(1, max(1, most) + 1) if rows % number == 0)
    each = rows // processes
    parts = min(parts for parts in range(1, each + 1) if each % parts == 0 and each // parts <= batch_size)
    return processes, replace(settings, batch_size=each // parts, accumulation=parts)


@contextlib.contextmanager
def led(folder: JobFolder, processes: int, model: Path | None) -> Iterator[Rank]:
    """Start this process's followers, and end them with the block; one process has none.

    Yields the leader's rank. What a follower could not go on for is raised in place of the error that its
    going has caused here. Where one dies without a word, so does this process: like any run that is
    killed, it goes on from its last checkpoint.
    """
    if processes == 1:
        yield ALONE
        return
    with socket.create_server(("127.0.0.1", 0)) as door:
        me = Rank(0, processes, door.getsockname()[1], door)
        team = _Team(folder, [_start(folder, replace(me, number=n), model) for n in range(1, processes)])
        try:
            yield me
        except Exception as error:
            if not isinstance(error, AppError):  # that one was raised on purpose, here
                team.answer_for(error)
            raise
        finally:
            team.end()


def join(me: Rank, device: str) -> None:
    """Let the processes find each other; returns once all are there. Call it once the model is loaded."""
    if me.of == 1:
        return
    import torch
    from accelerate.utils import check_cuda_p2p_ib_support
    from torch._C._distributed_c10d import TCPStore

    told = {"RANK": me.number, "LOCAL_RANK": me.number, "WORLD_SIZE": me.of, "LOCAL_WORLD_SIZE": me.of}
    os.environ.update({name: str(number) for name, number in told.items()})  # accelerate reads them
    if sys.platform == "linux":
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    if device == "cuda" and not check_cuda_p2p_ib_support():
        # cards of the RTX 40 series under an old driver; accelerate refuses to begin without
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    store = TCPStore(
        "127.0.0.1",
        me.port,
        me.of,
        is_master=me.leads,
        timeout=PATIENCE,
        wait_for_workers=False,
        master_listen_fd=me.door.detach() if me.door else None,  # by itself it would listen on every address
    )
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=me.number,
        world_size=me.of,
        timeout=PATIENCE,
    )


def follow(act: Callable[[], None], told: Callable[[Exception], AppError]) -> NoReturn:
    """Do `act` as a follower, and end with the leader; `told` says as an `AppError` what went wrong."""
    for name in ("SIGTERM", "SIGINT"):  # the leader gets them as well, and what follows is for it to say
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    word = os.fdopen(os.dup(1), "wb", buffering=0)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # the leader prints the same
    watching = threading.Thread(target=_leave_with_the_leader, daemon=True)
    watching.start()
    try:
        act()
    except Exception as error:
        word.write(orjson.dumps(told(error).as_json(), option=orjson.OPT_APPEND_NEWLINE))
        os._exit(1)  # threads of the others' connections must not keep it
    watching.join()
    raise SystemExit  # not reached: the thread ends the process


class _Team:
    """The followers, each watched by a thread until `end`."""

    def __init__(self, folder: JobFolder, followers: list[subprocess.Popen[bytes]]) -> None:
        self._folder = folder
        self._followers = followers
        self._over = threading.Event()
        self._gone: queue.SimpleQueue[tuple[int, ModelError | None]] = queue.SimpleQueue()
        for process in followers:
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def answer_for(self, error: Exception) -> None:
        """Raise a follower's reason where its going has caused `error`; return where all are there."""
        try:
            process, word = self._gone.get(timeout=ECHO)
        except queue.Empty:
            return
        if word is None:
            self._die(process)
        raise word from error

    def end(self) -> None:
        """Let the followers go; those that will not are killed."""
        self._over.set()
        for process in self._followers:
            assert process.stdin
            process.stdin.close()
        for process in self._followers:
            try:
                process.wait(ECHO)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        line = process.stdout.readline()
        if self._over.is_set():
            return
        told = orjson.loads(line) if line.endswith(b"\n") else None
        word = ModelError(told["key"], **told["facts"]) if told else None
        self._gone.put((process.pid, word))
        if self._over.wait(HANGING):
            return
        # the leader stands in the midst of a step that will never be one
        if word is None:
            self._die(process.pid)
        self._folder.fail(word)
        self._kill()
        os._exit(1)

    def _die(self, process: int) -> NoReturn:
        with contextlib.suppress(OSError):
            print(f"process {process}, which had a share of the work, died without a word", flush=True)
        self._kill()
        if os.name == "posix":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)

    def _kill(self) -> None:
        for process in self._followers:
            process.kill()


def _start(folder: JobFolder, rank: Rank, model: Path | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lib.trainer", str(folder.path)]
    command += ["--model", str(model)] if model else []
    command += ["--follow", *map(str, (rank.number, rank.of, rank.port))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _leave_with_the_leader() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)
