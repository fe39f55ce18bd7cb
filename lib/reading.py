"""Read a run's curves for a beginner: one verdict, and in its sentence what to try next; and what was lost.

    early        too few points to say anything yet
    short        it ended with too few points to say anything
    diverged     the loss grew, or was no number any more: the learning rate is too high
    nothing      neither curve fell: the learning rate is too low, or the steps too few
    memorising   validation was best some epochs ago and has risen since, while training goes on falling
    learning     validation is falling
    falling      it ended while validation was still falling: there is more to be had
    settled      validation fell and is flat by now: more epochs would not help
    blind        training falls, and there is nothing to measure new questions with

Beside it, where the loss on what the model knew before is measured:

    forgetting   that loss has risen a good deal

The sentences are `reading.VERDICT` in the text files. To add a verdict: a line here, a rule in `read`, and
its sentence in each language.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.curves import Curves, Series, lowest
from lib.jobs import ENDED, Job

# Where "more" begins. They are ours, set so that the runs of the practice model with settings known to be
# too low, right, too high and too many epochs are read as what they are (tests/test_reading.py).
FELL = 0.05  # of where it began: less is no learning
ROSE = 0.02  # above the best validation loss: less is jitter between two measurements
BURST = 1.5  # times the lowest training loss, smoothed: only a run that came apart gets there
RETURNED = 0.3  # of what the training loss had fallen, lost again
STILL = 0.02  # fallen in the last third, as far as the learning rate goes: less is flat
FORGOT = 1.25  # times the loss on what it knew before; less is no reason to warn
POINTS = 8  # of the training loss; fewer cannot be told from noise
BEGINNING = 0.25  # of the steps: before that, nothing learned may be the warm-up


@dataclass(frozen=True, slots=True)
class Reading:
    """A verdict and the facts that its sentence names."""

    verdict: str
    facts: dict[str, float] = field(default_factory=dict)


def of(job: Job, curves: Curves) -> list[Reading]:
    """Read a job's curves: how it learns, and where that is measured and much, what it forgets."""
    status = job.folder.status()
    told = read(
        curves.series("loss"),
        curves.series("eval_loss"),
        curves.series("learning_rate"),
        ended=job.state in ENDED,
        share=status.get("step", 0) / max(1, status.get("steps", 1)),
        broken=curves.broken or (job.error or {}).get("key") == "trainer.diverged",
    )
    return [told, *filter(None, [forgetting(curves.series("known_loss"))])]


def read(
    loss: Series,
    validation: Series,
    rates: Series | None = None,
    *,
    ended: bool,
    share: float = 1.0,
    broken: bool = False,
) -> Reading:
    """Read the training loss and the validation loss of one run.

    `validation` has its first value from before the first step, as far as the run measured it. `rates` are
    the learning rates: a curve that is flat where they have come down to almost nothing may not be done.
    `share` is how many of the steps have been made, 0 to 1. `broken`: a loss was no number any more.
    """
    if broken:
        return Reading("diverged")
    if len(loss) < POINTS or (len(validation) == 1 and not ended):
        known = len(validation) > 2
        told = _by_validation(validation, rates, training_fell=True) if known else Reading("short")
    else:
        told = _by_both(loss, validation, rates)
    if ended:
        return Reading("falling", told.facts) if told.verdict == "learning" else told
    early = told.verdict == "short" or (told.verdict == "nothing" and share < BEGINNING)
    return Reading("early") if early else told


def forgetting(known: Series) -> Reading | None:
    """Read the loss on what the model knew before; None where little was lost, or that was not measured."""
    if len(known) < 2:
        return None
    first, last = float(known.values[0]), float(known.values[-1])
    return Reading("forgetting", {"first": first, "last": last}) if last > first * FORGOT else None


def _by_both(loss: Series, validation: Series, rates: Series | None) -> Reading:
    first, last, least, jitter = _levels(loss)
    facts = {"first": first, "last": last}
    margin = max(FELL * first, jitter)
    burst = max(least * BURST, least + RETURNED * (first - least), least + jitter)
    if last > first + margin or last > burst:
        return Reading("diverged", facts)
    fell = first - last > margin
    if len(validation) < 2:
        return Reading("blind" if fell else "nothing", facts)
    return _by_validation(validation, rates, training_fell=fell)


def _by_validation(validation: Series, rates: Series | None, *, training_fell: bool) -> Reading:
    best_at = lowest(validation)
    assert best_at is not None
    values = validation.values
    first, best, last = float(values[0]), float(values[best_at]), float(values[-1])
    facts = {"first": first, "best": best, "last": last, "epoch": float(validation.epochs[best_at])}
    since = len(values) - 1 - best_at  # measurements since the best one
    rose = last > best * (1 + ROSE)
    if best > first * (1 - FELL) and not (training_fell and rose):
        return Reading("diverged" if last > first * (1 + FELL) else "nothing", facts)
    if rose and training_fell and (since >= 2 or last > best * (1 + 2 * ROSE)):
        return Reading("memorising", facts)
    before = values[_last_third(validation, rates)]
    return Reading("learning" if 1 - last / before > STILL else "settled", facts)


def _last_third(validation: Series, rates: Series | None) -> int:
    """Return the measurement where the last third begins: of the way that the learning rates add up to.

    A cosine comes down so far that the last third of the steps goes only a twentieth of the way.
    """
    latest = len(validation) - 2
    if rates is None or not len(rates):
        return min(latest, len(validation) - len(validation) // 3)
    made = np.searchsorted(rates.steps, validation.steps, "right")
    way = np.concatenate(([0.0], rates.values.cumsum()))[made]
    return min(latest, int(np.searchsorted(way, way[-1] * 2 / 3, "right")) - 1)


def _levels(loss: Series) -> tuple[float, float, float, float]:
    """Return about where a noisy curve began, where it is, its lowest, and how far these may be off.

    Each is a mean over a tenth of the curve. How far two of them may differ by chance, in 99 of 100 curves
    that are all noise, is judged from how much one value differs from the next.
    """
    width = max(3, len(loss) // 10)
    sums = np.concatenate(([0.0], loss.values.cumsum()))
    means = (sums[width:] - sums[:-width]) / width
    jitter = 3 * float(np.diff(loss.values).std()) / width**0.5
    return float(means[0]), float(means[-1]), float(means.min()), jitter
