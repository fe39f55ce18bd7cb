"""Talk to a base model and its tuned version, loaded once: `python -m lib.trainer.talk JOB_FOLDER`.

Also `--model FOLDER` for a base model alone. One JSON object a line, in and out:

    <- {"ready": true, "tuned": true, "device": "cpu"}         or {"error": {"key", "facts"}} and the end
    -> {"id": 1, "which": "tuned", "messages": [{"role", "content"}], "max_new_tokens": 256,
        "temperature": 0, "seed": 0}
    <- {"id": 1, "text": "a piece"}  …  {"id": 1, "done": true, "tokens": 12, "seconds": 0.3}
    <- {"id": 1, "error": {"key", "facts"}}                     instead, if it cannot be answered
    -> {"stop": 1}                                              end answer 1 now

Standard output carries these lines and nothing else; whatever libraries print goes to standard error. The
process ends with its standard input, or after some idle minutes.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import orjson

from lib.errors import AppError, ModelError
from lib.trainer import failure, quiet

IDLE_MINUTES = 30.0

Line = dict[str, Any]


class Pipe:
    """The two ends of the protocol. Lines are read on a thread, so that a stop is heard in mid-answer."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._asked: queue.Queue[Line | None] = queue.Queue()
        self._stopped: set[Any] = set()
        self.closed = False
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self, seconds: float) -> Line | None:
        """Return the next question, or None at the end of input or after `seconds` without one."""
        try:
            return self._asked.get(timeout=seconds)
        except queue.Empty:
            return None

    def say(self, **line: Any) -> None:
        """Write one line."""
        self._outgoing.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._outgoing.flush()

    def stopped(self, number: Any) -> bool:
        """Return whether answer `number` should end: asked to stop, or nobody is there any more."""
        return self.closed or number in self._stopped

    def _listen(self) -> None:
        for raw in self._incoming:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                line = None
            if not isinstance(line, dict):
                self.say(error=ModelError("trainer.bad_question", message="not a JSON object").as_json())
            elif "stop" in line:
                self._stopped.add(line["stop"])
            else:
                self._asked.put(line)
        self.closed = True
        self._asked.put(None)


class Pair:
    """A base model and, where there is one, its adapter."""

    def __init__(self, base: Path, adapter: Path | None, *, practice: bool) -> None:
        import torch

        from lib.trainer import model

        torch.set_num_threads(quiet.threads(practice))
        if practice:
            quiet.keep_memory()
        cuda = torch.cuda.is_available() and not practice
        half = cuda and torch.cuda.is_bf16_supported()
        # the adapter's folder holds the tokenizer and the template it was trained with
        self.tokenizer, _ = model.load_tokenizer(base, adapter)
        self.model = model.load_model(base, torch.bfloat16 if half else torch.float32)
        self.tuned = adapter is not None
        if adapter:
            from peft import PeftModel

            try:
                self.model = PeftModel.from_pretrained(self.model, adapter)
            except Exception as error:
                message = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
                raise ModelError("trainer.bad_adapter", folder=str(adapter), message=message) from error
        self.device = "cuda" if cuda else "cpu"
        self.model.to(self.device).eval()

    def answer(self, question: Line, pipe: Pipe) -> int:
        """Stream the answer to `question` and return how many tokens it has."""
        import contextlib

        import torch
        from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextStreamer

        from lib.trainer import data, model

        number, which = question.get("id"), question.get("which", "base")
        if which == "tuned" and not self.tuned:
            raise ModelError("trainer.no_adapter")
        messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in question["messages"]]
        prompt = self.tokenizer(
            data.render(self.tokenizer, messages, opening=True), add_special_tokens=False, return_tensors="pt"
        ).to(self.device)
        length = prompt["input_ids"].shape[1]
        longest = model.longest(self.model)
        if length >= longest:
            raise ModelError("trainer.prompt_too_long", tokens=length, longest=longest)

        class Heard(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
                return torch.full((input_ids.shape[0],), pipe.stopped(number), device=input_ids.device)

        class Streamer(TextStreamer):  # type: ignore[misc]
            def on_finalized_text(self, text: str, **_: Any) -> None:
                if text:
                    pipe.say(id=number, text=text)

        temperature = float(question.get("temperature", 0.0))
        config = GenerationConfig(
            max_new_tokens=max(1, min(int(question.get("max_new_tokens", 256)), longest - length)),
            do_sample=temperature > 0,
            eos_token_id=self._ends(),
            pad_token_id=self.tokenizer.pad_token_id,
            **({"temperature": temperature} if temperature > 0 else {}),
        )
        torch.manual_seed(int(question.get("seed", 0)))
        base = which == "base" and self.tuned
        with torch.inference_mode(), self.model.disable_adapter() if base else contextlib.nullcontext():
            said = self.model.generate(
                **prompt,
                generation_config=config,
                streamer=Streamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True),
                stopping_criteria=StoppingCriteriaList([Heard()]),
            )
        tokens: int = said.shape[1] - length
        return tokens

    def _ends(self) -> list[int]:
        own = self.model.generation_config.eos_token_id
        ends = own if isinstance(own, list) else [own]
        return sorted({end for end in [*ends, self.tokenizer.eos_token_id] if end is not None})


def main() -> int:
    """Load the models, then answer until nobody asks any more."""
    asked = argparse.ArgumentParser(prog="python -m lib.trainer.talk", description=__doc__.splitlines()[0])
    asked.add_argument("job_folder", type=Path, nargs="?")
    asked.add_argument("--model", type=Path, help="folder of the base model")
    asked.add_argument(
        "--idle", type=float, default=IDLE_MINUTES, help="minutes without a question to end after"
    )
    given = asked.parse_args()
    if not given.job_folder and not given.model:
        asked.error("a job folder or --model is needed")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # from here on, what anything prints is not taken for an answer
    quiet.prepare()
    pipe = Pipe(sys.stdin.buffer, outgoing)
    place = given.job_folder or given.model
    try:
        pair = load(given.job_folder, given.model)
    except Exception as error:
        pipe.say(error=failure.told(error, place, {}).as_json())
        return 1
    pipe.say(ready=True, tuned=pair.tuned, device=pair.device)
    while question := pipe.next(given.idle * 60):
        begun = time.monotonic()
        number = question.get("id")
        try:
            tokens = pair.answer(question, pipe)
        except (KeyError, TypeError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"[:300]
            pipe.say(id=number, error=ModelError("trainer.bad_question", message=message).as_json())
        except Exception as error:
            told: AppError = failure.told(error, place, {})
            pipe.say(id=number, error=told.as_json())
        else:
            pipe.say(id=number, done=True, tokens=tokens, seconds=round(time.monotonic() - begun, 3))
    return 0


def load(folder: Path | None, given: Path | None) -> Pair:
    """Load a job's pair of models, or with no job `given` alone."""
    from lib.jobfolder import JobFolder
    from lib.trainer import model

    if folder is None:
        where = model.where({"model": {"kind": "path", "id": str(given)}}, given)
        pair = Pair(where.folder, None, practice=where.practice)
    else:
        job = JobFolder(folder.resolve())
        base = (job.result() or {}).get("base")  # where the trainer found a Hub model's files
        where = model.where(job.asked(), given or (Path(base) if base else None))
        adapter = job.path / "adapter"
        pair = Pair(where.folder, adapter if adapter.is_dir() else None, practice=where.practice)
    quiet.after_import()
    return pair


if __name__ == "__main__":
    sys.exit(main())
