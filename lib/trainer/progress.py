"""What happens at every step beside the learning: evaluate, report, save, and stop when asked to."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from lib.errors import ModelError
from lib.jobfolder import JobFolder
from lib.trainer import memory
from lib.trainer.settings import evaluation_steps

SAVE_EVERY = 30.0  # seconds; what a crash can cost
REPORT_EVERY = 0.25  # seconds


class StopError(Exception):
    """Somebody asked for a stop in the middle of something long."""


class Stop:
    """Whether somebody asked for a stop: through the job folder, or with SIGTERM or Ctrl+C."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._signalled = False
        for name in ("SIGTERM", "SIGINT"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._signal)

    def wanted(self) -> bool:
        """Return whether to stop now."""
        return self._signalled or self._folder.stop_wanted()

    def _signal(self, _number: int, _frame: object) -> None:
        self._signalled = True


class Evaluations(TrainerCallback):  # type: ignore[misc]
    """Evaluate when it is time: all that a process does beside learning which follows another.

    `loop` must be set before training begins. `evaluations`: the losses so far.
    """

    def __init__(self, folder: JobFolder, *, evaluate: bool) -> None:
        self.folder = folder
        self.loop: Any = None
        self.evaluations: list[float] = []
        self._evaluate = evaluate
        self._evaluate_at: set[int] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Plan the evaluations; a resumed run plans the same ones and makes up for one broken off."""
        del control
        self._evaluate_at = evaluation_steps(state.max_steps, args.num_train_epochs)
        done = [row for row in self.folder.metrics() if row.get("eval_loss") is not None]
        self.evaluations = [row["eval_loss"] for row in done]
        at = state.global_step
        if self._evaluate and at in self._evaluate_at and all(row["step"] != at for row in done):
            self.loop.evaluate()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for an evaluation when it is time."""
        del args
        control.should_evaluate = self._evaluate and state.global_step in self._evaluate_at


class Progress(Evaluations):
    """Report to the job folder, and decide when to save and stop.

    `patience`: end the run after so many evaluations in a row without a better one, 0 for never. `best` is
    told every evaluation after the first step.
    """

    def __init__(
        self,
        folder: JobFolder,
        stop: Stop,
        *,
        learning_rate: float,
        evaluate: bool,
        device: str = "cpu",
        save_every: float = SAVE_EVERY,
        patience: int = 0,
        best: Callable[[int, float], None] | None = None,
    ) -> None:
        super().__init__(folder, evaluate=evaluate)
        self.stop = stop
        self.stopped = False
        self.stopped_early = False
        self.loss: float | None = None
        self._learning_rate = learning_rate
        self._device = device
        self._save_every = save_every
        self._patience = patience
        self._best = best
        self._reported = 0.0
        self._saved = self._begun = self._logged = time.monotonic()
        self._first_step = 0
        self.paused = 0.0  # seconds spent evaluating, which say nothing about the speed of steps
        self._read = self._read_paused = 0.0  # tokens, and `paused`, at the last row of metrics

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to report, before anything else takes time."""
        self._first_step = state.global_step
        self._saved = self._begun = self._logged = time.monotonic()
        self._report("training", state, args, now=True)
        self.loop.remember()
        super().on_train_begin(args, state, control)

    def on_substep_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Stop between two parts of an accumulated step."""
        if self.stop.wanted():
            raise StopError

    def on_prediction_step(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Keep the heart beating through an evaluation, and stop in its middle."""
        if self.stop.wanted():
            raise StopError
        self._report("evaluating", state, args)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step; ask for an evaluation, a checkpoint or the end when it is time."""
        self.loop.remember()
        last = state.global_step >= state.max_steps
        if self.stop.wanted() and not last:
            self.stopped = True
            control.should_training_stop = control.should_save = True
            return
        super().on_step_end(args, state, control)
        control.should_log = control.should_log or last
        if time.monotonic() - self._saved > self._save_every and not last:
            control.should_save = True
        self._report("evaluating" if control.should_evaluate else "training", state, args)

    def on_save(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Note when the last checkpoint was written."""
        self._saved = time.monotonic()

    def on_evaluate(
        self, _args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Keep the best, and end a run that has not become better for as long as was asked."""
        loss = (metrics or {})["eval_loss"]
        self.evaluations.append(loss)
        if self._best and state.global_step:
            self._best(state.global_step, loss)
        since = len(self.evaluations) - 1 - self.evaluations.index(min(self.evaluations))
        if self._patience and since >= self._patience and state.global_step < state.max_steps:
            self.stopped_early = control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Write a metrics row, and end a run that has blown up: it learns nothing from there on."""
        logs = logs or {}
        names = [name for name in ("loss", "eval_loss") if name in logs]
        if not names:
            return
        name = names[0]
        value = float(logs[name])
        grad = float(logs.get("grad_norm", 0.0))
        if not math.isfinite(value) or not math.isfinite(grad):
            if not state.global_step:
                raise ModelError("trainer.broken_weights")
            raise ModelError("trainer.diverged", step=state.global_step, learning_rate=self._learning_rate)
        row: dict[str, Any] = {
            "step": state.global_step,
            "epoch": round(float(state.epoch or 0), 4),
            name: value,
        }
        clock = time.monotonic()
        if name == "loss":
            self.loss = value
            row["learning_rate"] = logs.get("learning_rate")
            row["grad_norm"] = grad
            row["tokens_per_second"] = self._speed(clock)
            row["memory"] = memory.used(self._device)
        else:
            self.paused += float(logs.get("eval_runtime", 0.0))
            row["eval_accuracy"] = logs.get("eval_mean_token_accuracy")
            if "eval_known_loss" in logs:
                row["known_loss"] = logs["eval_known_loss"]
        row["seconds"] = round(clock - self._begun, 3)
        self.folder.metric(**row)
        shown = " ".join(
            f"{key}={number:.4g}" for key, number in row.items() if isinstance(number, int | float)
        )
        print(shown, flush=True)
        self._report("training", state, args, now=name == "eval_loss")

    def _speed(self, clock: float) -> float:
        """Return the tokens read per second of training since this was last asked."""
        read = self.loop.read()
        seconds = clock - self._logged - (self.paused - self._read_paused)
        speed = (read - self._read) / max(1e-9, seconds)
        self._read, self._read_paused, self._logged = read, self.paused, clock
        return float(round(speed, 1))

    def _report(self, phase: str, state: Any, args: Any, *, now: bool = False) -> None:
        clock = time.monotonic()
        if not now and clock - self._reported < REPORT_EVERY:
            return
        self._reported = clock
        done = state.global_step - self._first_step
        speed = done / max(1e-9, clock - self._begun - self.paused)
        self.folder.report(
            phase,
            step=state.global_step,
            steps=state.max_steps,
            epoch=round(float(state.epoch or 0), 3),
            epochs=args.num_train_epochs,
            loss=self.loss,
            steps_per_second=round(speed, 3) if done else None,
            seconds_left=round((state.max_steps - state.global_step) / speed, 1) if done else None,
        )
