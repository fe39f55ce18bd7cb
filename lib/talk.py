"""Talk to a base model and its tuned version, loaded together in a process of their own.

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
from pathlib import Path
from typing import Any

import orjson

from lib.chat import Message
from lib.errors import ModelError

ROOT = Path(__file__).resolve().parent.parent


class Talk:
    """One loaded pair of models. Safe to share: questions wait for one another."""

    def __init__(self, job_folder: Path) -> None:
        self._folder = job_folder
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def reply(
        self,
        which: str,
        messages: Sequence[Message],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield the answer of `which` ("base" or "tuned") piece by piece.

        The first question loads the models (seconds). Temperature 0 always takes the likeliest word. Closing
        the iterator early stops the answer. Raises `ModelError` when the models cannot be loaded or fail.
        """
        with self._turn:
            process = self._alive()
            self._asked += 1
            number = self._asked
            self._send(
                process,
                {
                    "id": number,
                    "which": which,
                    "messages": [{"role": m.role, "content": m.content} for m in messages],
                    "max_new_tokens": max_new_tokens,
                    "temperature": temperature,
                    "seed": seed,
                },
            )
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

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process and self._process.poll() is None:
            return self._process
        self.close()
        env = os.environ | {"PYTHONUTF8": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "lib.trainer.talk", str(self._folder)]
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
