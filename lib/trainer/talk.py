"""Talk to a base model and what was tuned from it, loaded once: `python -m lib.trainer.talk JOB_FOLDER`.

Also `--model FOLDER` for a base model alone. One JSON object a line, in and out:

    <- {"ready": true, "tuned": true, "device": "cpu"}         or {"error": {"key", "facts"}} and the end
    -> {"id": 1, "which": "tuned", "messages": [{"role", "content"}], "max_new_tokens": 256,
        "temperature": 0, "top_p": 1, "seed": 0, "job": "FOLDER"}
    <- {"id": 1, "text": "a piece"}  …  {"id": 1, "done": true, "tokens": 12, "seconds": 0.3}
    <- {"id": 1, "error": {"key", "facts"}}                     instead, if it cannot be answered
    -> {"stop": 1}                                              end answer 1 now

`job` is another job folder tuned from the same base, for whose adapter the base is not loaded again; without
it, the one given at the start. "base" answers with the job's template too, so that only the weights differ.

Standard output carries these lines and nothing else; whatever libraries print goes to standard error. The
process ends with its standard input, or after some idle minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from lib.errors import AppError, ModelError
from lib.trainer import failure, memory, precision, quiet

IDLE_MINUTES = 30.0
ADAPTERS = 8  # kept in memory at a time; each is a hundredth of its base
WHOLE = 2  # likewise, of models that were trained whole: as large as their base

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


class Models:
    """A base model and what was tuned from it: each adapter is loaded when it is first asked for.

    `model` and `tokenizer` are those of the job it was begun with, `tuned` whether that has a tuned model.
    """

    def __init__(self, base: Path, job: Path | None, *, practice: bool) -> None:
        import torch

        from lib.trainer import model

        torch.set_num_threads(quiet.threads(practice))
        if practice:
            quiet.keep_memory()
        self.device = "cuda" if torch.cuda.is_available() and not practice else "cpu"
        half = precision.half(self.device, memory.parameters(base))
        self.base = base.resolve()
        self._dtype = torch.bfloat16 if half else torch.float32
        self.model = model.load_model(base, self._dtype)
        self.model.to(self.device).eval()
        self._job = job
        # (folder, when it was written) -> an adapter's name in peft, or a model that was trained whole
        self._adapters: dict[tuple[str, int], str] = {}
        self._whole: dict[tuple[str, int], Any] = {}
        self._named = 0
        self._now: Any = None
        self.tokenizer, self.tuned = self.turn_to(job)

    def turn_to(self, job: Path | None) -> tuple[Any, bool]:
        """Have `voice` speak for a job; return its tokenizer, and whether it has a tuned model.

        Raises `ModelError` where that cannot be loaded.
        """
        from lib.trainer import model

        self._now = None
        adapter, whole = (job / "adapter", job / "model") if job else (self.base, self.base)
        if job is None or not (adapter.is_dir() or whole.is_dir()):
            return model.load_tokenizer(self.base)[0], False
        kept = adapter if adapter.is_dir() else whole
        # beside what was tuned lie the tokenizer and the template it was trained with
        tokenizer, _ = model.load_tokenizer(self.base, kept)
        known = (str(kept), _written(kept))
        if kept == whole:
            if known not in self._whole:
                self._forget(self._whole, WHOLE)
                self._whole[known] = model.load_model(whole, self._dtype).to(self.device).eval()
            self._now = self._whole[known] = self._whole.pop(known)  # the one asked last is forgotten last
            return tokenizer, True
        if known not in self._adapters:
            self._load(adapter, known)
        self._adapters[known] = self._adapters.pop(known)
        self.model.set_adapter(self._adapters[known])
        self._now = self.model
        return tokenizer, True

    @contextlib.contextmanager
    def voice(self, which: str) -> Iterator[Any]:
        """Yield the model that answers as "base" or "tuned" for the job turned to."""
        if which != "base":
            yield self._now
            return
        with self.model.disable_adapter() if self._adapters else contextlib.nullcontext():
            yield self.model

    def ends(self, tokenizer: Any) -> list[int]:
        """Return the tokens that end an answer: the model's own and those of a job's tokenizer."""
        own = self.model.generation_config.eos_token_id
        ends = own if isinstance(own, list) else [own]
        return sorted({end for end in [*ends, tokenizer.eos_token_id] if end is not None})

    def _load(self, adapter: Path, known: tuple[str, int]) -> None:
        from peft import PeftModel

        for name in self._forget(self._adapters, ADAPTERS):
            self.model.delete_adapter(name)
        name = f"adapter{self._named}"
        try:
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(adapter, adapter_name=name)
            else:
                self.model = PeftModel.from_pretrained(self.model, adapter, adapter_name=name)
        except Exception as error:
            message = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise ModelError("trainer.bad_adapter", folder=str(adapter), message=message) from error
        self._named += 1
        self._adapters[known] = name
        self.model.to(self.device).eval()

    def _forget(self, held: dict[tuple[str, int], Any], most: int) -> list[Any]:
        """Make room for one more among `held`; return what was taken out, the oldest first."""
        return [held.pop(next(iter(held))) for _ in range(len(held) - most + 1)]

    def _other(self, question: Line) -> Path | None:
        """Return the job folder a question is for."""
        if not question.get("job"):
            return self._job
        job = Path(str(question["job"])).resolve()
        if job != self._job and find_base(job, None).folder.resolve() != self.base:
            raise ModelError("trainer.other_base", folder=str(job), base=str(self.base))
        return job

    def answer(self, question: Line, pipe: Pipe) -> int:
        """Stream the answer to `question` and return how many tokens it has."""
        import torch
        from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextStreamer

        from lib.trainer import data, model

        number, which = question.get("id"), question.get("which", "base")
        tokenizer, tuned = self.turn_to(self._other(question))
        if which == "tuned" and not tuned:
            raise ModelError("trainer.no_adapter")
        messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in question["messages"]]
        prompt = tokenizer(
            data.render(tokenizer, messages, opening=True), add_special_tokens=False, return_tensors="pt"
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
            eos_token_id=self.ends(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            **(
                # top_k=0: the library's own default would quietly leave all but 50 tokens out
                {"temperature": temperature, "top_p": float(question.get("top_p", 1.0)), "top_k": 0}
                if temperature > 0
                else {}
            ),
        )
        torch.manual_seed(int(question.get("seed", 0)))
        with torch.inference_mode(), self.voice(str(which)) as speaking:
            said = speaking.generate(
                **prompt,
                generation_config=config,
                streamer=Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
                stopping_criteria=StoppingCriteriaList([Heard()]),
            )
        tokens: int = said.shape[1] - length
        return tokens


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
        models = load(given.job_folder, given.model)
    except Exception as error:
        pipe.say(error=failure.told(error, place, {}).as_json())
        return 1
    pipe.say(ready=True, tuned=models.tuned, device=models.device)
    while question := pipe.next(given.idle * 60):
        begun = time.monotonic()
        number = question.get("id")
        try:
            tokens = models.answer(question, pipe)
        except (KeyError, TypeError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"[:300]
            pipe.say(id=number, error=ModelError("trainer.bad_question", message=message).as_json())
        except Exception as error:
            told: AppError = failure.told(error, place, {})
            pipe.say(id=number, error=told.as_json())
        else:
            pipe.say(id=number, done=True, tokens=tokens, seconds=round(time.monotonic() - begun, 3))
    return 0


def load(folder: Path | None, given: Path | None) -> Models:
    """Load the base model of a job and its adapter, or with no job the model `given` alone."""
    where = find_base(folder, given)
    models = Models(where.folder, folder.resolve() if folder else None, practice=where.practice)
    quiet.after_import()
    return models


def find_base(folder: Path | None, given: Path | None) -> Any:
    """Return where the base model of a job is, or with no job the model `given`."""
    from lib.jobfolder import JobFolder
    from lib.trainer import model

    if folder is None:
        return model.where({"model": {"kind": "path", "id": str(given)}}, given)
    job = JobFolder(folder.resolve())
    base = (job.result() or {}).get("base")  # where the trainer found a Hub model's files
    return model.where(job.asked(), given or (Path(base) if base else None))


def _written(kept: Path) -> int:
    """Return when a tuned model was written: a job that went on has a new one in the same place."""
    return max((path.stat().st_mtime_ns for path in kept.glob("*.safetensors")), default=0)


if __name__ == "__main__":
    sys.exit(main())
