"""Training runs that have ended, or wait, as the trainer leaves them; no process is started for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib import joblist, jobs, params
from lib.jobs import Job

SETTINGS: dict[str, float] = {name: row.default for name, row in params.PARAMS.items() if row.here}
FALLING = (3.0, 2.0, 1.5, 1.2, 1.1)


def finished(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    validation: Sequence[float] = FALLING,
    kept_step: int | None = None,
    model: Mapping[str, str] | None = None,
    data: Path | None = None,
    state: str = "done",
    rows: int = 40,
) -> Job:
    """Enter a training of this computer with `rows` training losses and these validation losses."""
    asked = {
        "model": dict(model or {"kind": "practice", "id": "practice"}),
        "settings": SETTINGS | dict(settings or {}),
        "system": "",
    }
    job = jobs._enter("train", name, asked, "local", data)
    folder = job.folder
    for step in range(1, rows + 1):
        epoch = 4 * step / rows
        folder.metric(step=step, epoch=epoch, loss=3 / (1 + epoch), tokens_per_second=900.0, memory=5e8)
    for number, value in enumerate(validation):
        share = number / max(1, len(validation) - 1)
        folder.metric(step=round(share * rows), epoch=4 * share, eval_loss=value)
    folder.report("saving", step=rows, steps=rows)
    if state == "done":
        folder.finish(
            adapter="adapter",
            step=rows,
            steps=rows,
            kept_step=kept_step or rows,
            eval_loss=validation[-1] if validation else None,
            eval_loss_before=validation[0] if validation else None,
            tokens_per_second=1000.0,
            seconds=12.0,
        )
    elif state == "stopped":
        folder.halt(step=rows)
    if state != "queued":
        with joblist.opened(write=True) as db:
            joblist.change(db, joblist.row_of(db, job.id), state)
    return joblist.get(job.id)
