"""Together AI's shape: one flat request, limits for each model, its own estimate of the price, endpoints.

Source: togethercomputer/openapi `openapi.yaml` @090263aa, read 2026-11-22.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lib import jobs
from lib.backends.base import Model
from lib.backends.profile import dig
from lib.backends.remote import FAILED, Cost, Remembered, Remote, Seen
from lib.backends.wire import Wire
from lib.params import Ranges, Settings


class TogetherShaped(Remote):
    """Together AI."""

    asks_price = True

    def limits(self, wire: Wire, model: Model) -> Ranges:
        """Return the ranges it tells for a model, within those of its documents."""
        told = wire.get("/fine-tunes/models/limits", model_name=model["id"])
        most = {
            "epochs": (1, dig(told, "max_num_epochs")),
            "learning_rate": (dig(told, "min_learning_rate"), dig(told, "max_learning_rate")),
            "batch_size": (
                dig(told, "lora_training.min_batch_size"),
                dig(told, "lora_training.max_batch_size"),
            ),
            "lora_rank": (1, dig(told, "lora_training.max_rank")),
        }
        return {name: _within(row, most.get(name, row)) for name, row in self.ranges.items()}

    def cost(self, data: Path, model: Model, settings: Settings, wire: Wire | None = None) -> Cost:
        """Return its own estimate, for which the files are sent; without a `wire` what its page says."""
        known = super().cost(data, model, settings)
        if wire is None:
            return known
        files = {}
        for name in ("train", "validation"):
            path = data / f"{name}.jsonl"
            if path.is_file() and path.stat().st_size:
                files[name] = self.upload(wire, path, lambda _done, _total: None)
        body = self.request({"model": model, "settings": settings}, files, "")
        asked = ("training_file", "validation_file", "model", "n_epochs", "n_evals", "training_method")
        told = wire.post(
            "/fine-tunes/estimate-price",
            {name: body[name] for name in (*asked, "training_type") if name in body},
        )
        tokens, price = dig(told, "estimated_train_token_count"), dig(told, "estimated_total_price")
        if not isinstance(price, int | float):
            raise wire.odd(told)
        return replace(
            known,
            tokens=int(tokens) if isinstance(tokens, int | float) else known.tokens,
            amount=float(price),
            asked=True,
            files=files,
        )

    def request(self, asked: dict[str, Any], files: dict[str, str], suffix: str) -> dict[str, Any]:
        """Return what starts a job; with a validation file it is evaluated on once."""
        body = super().request(asked, files, suffix)
        return body | {"n_evals": int(bool(files.get("validation")))}

    def seen(self, told: Any) -> Seen:
        """Read what it says of a job; why one failed stands in its last event."""
        seen = super().seen(told)
        last = (dig(told, "events") or [{}])[-1]
        return replace(seen, said=str(dig(last, "message") or "")) if seen.state == FAILED else seen

    def blanks(self, wire: Wire, job: jobs.Job, known: Remembered) -> dict[str, str]:
        """Choose the cheapest hardware that can serve the model now."""
        filled = super().blanks(wire, job, known)
        offered = dig(wire.get("/hardware", model=filled["model"]), "data") or []
        free = [one for one in offered if dig(one, "availability.status") in (None, "available")]
        if not free:
            raise wire.odd(offered)
        best = min(free, key=lambda one: float(dig(one, "pricing.cents_per_minute") or 1e9))
        cents = dig(best, "pricing.cents_per_minute")
        if isinstance(cents, int | float):
            known["hour"] = cents * 60 / 100
        return filled | {"hardware": str(best["id"])}


def _within(row: tuple[float, float], told: tuple[Any, Any]) -> tuple[float, float]:
    low, high = (one if isinstance(one, int | float) else row[place] for place, one in enumerate(told))
    return max(row[0], float(low)), min(row[1], float(high))
