"""Talk to a base model and what was tuned from it, loaded together in a process of their own.

The process is `python -m lib.trainer.talk`; JSON lines go in and out through its pipes, so there is no
port to guard, and it ends when whoever started it ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from lib.chat import Message
from lib.errors import ModelError
from lib.jobfolder import JobFolder

ROOT = Path(__file__).resolve().parent.parent
IDLE_MINUTES = 30.0  # without a question; then the models leave the memory until the next one


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next word is picked.

    Temperature 0 always takes the likeliest, and then the rest but the length has no effect. `top_p`: only
    the likeliest words that together reach this share are picked from. The same `seed` picks the same; not
    every platform takes one.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0


LIKELIEST = Sampling()


def base_of(folder: JobFolder) -> str:
    """Return what tells the base model of a job from others: jobs of one base can share a `Talk`."""
    model = folder.asked().get("model") or {}
    if model.get("kind") == "practice":
        return "practice"
    return str((folder.result() or {}).get("base") or model.get("id"))


def tuned(folder: JobFolder) -> Path | None:
    """Return where a job's tuned model lies: its adapter, or all of a model that was trained whole."""
    result = folder.result() or {}
    kept = result.get("adapter") or result.get("model")
    return folder.path / str(kept) if kept else None


class Talk:
    """One base model and what was tuned from it. Safe to share: questions wait for one another."""

    def __init__(self, *, idle_minutes: float = IDLE_MINUTES) -> None:
        self._idle = idle_minutes
        self._folder = Path()  # of the job that the process was started with
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def reply(
        self,
        job_folder: Path,
        which: str,
        messages: Sequence[Message],
        sampling: Sampling = LIKELIEST,
    ) -> Iterator[str]:
        """Yield the answer of a job's `which` ("base" or "tuned") piece by piece.

        The first question, and the first after idle minutes, loads the base model (seconds); all jobs must be
        tuned from the same one. Closing the iterator early stops the answer. Raises `ModelError` when the
        models cannot be loaded or fail.
        """
        with self._turn:
            process = self._alive(job_folder)
            self._asked += 1
            number = self._asked
            question = {
                "id": number,
                "job": str(job_folder),
                "which": which,
                "messages": [{"role": m.role, "content": m.content} for m in messages],
            }
            self._send(process, question | asdict(sampling))
            finished = False
            try:
                while True:
                    line = self._read(process)
                    if line.get("id") != number:
                        continue
                    if "error" in line:
                        finished = True
                        raise ModelError(line["error"]["key"], **line["error"]["facts"])
                    if line.get("done"):
                        finished = True
                        return
                    yield line["text"]
            finally:
                if not finished and process.poll() is None:
                    self._send(process, {"stop": number})

    def close(self) -> None:
        """Unload the models."""
        process, self._process = self._process, None
        if process:
            assert process.stdin
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout
            process.stdout.close()

    @property
    def loaded(self) -> bool:
        """Whether models are in memory now."""
        return self._process is not None and self._process.poll() is None

    def _alive(self, job_folder: Path) -> subprocess.Popen[bytes]:
        if self._process and self.loaded:
            return self._process
        self.close()
        self._folder = job_folder
        env = os.environ | {"PYTHONUTF8": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "lib.trainer.talk", str(self._folder)]
        command += ["--idle", str(self._idle)]
        with (self._folder / "talk.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, cwd=ROOT
            )
        first = self._read(self._process)
        if "error" in first:
            self.close()
            raise ModelError(first["error"]["key"], **first["error"]["facts"])
        return self._process

    def _send(self, process: subprocess.Popen[bytes], line: dict[str, object]) -> None:
        assert process.stdin
        try:
            process.stdin.write(orjson.dumps(line) + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise ModelError("trainer.talk_died", log=str(self._folder / "talk.log")) from error

    def _read(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise ModelError("trainer.talk_died", log=str(self._folder / "talk.log"))
        answer = orjson.loads(line)
        assert isinstance(answer, dict)
        return answer
