"""The playground: a tiny language model, fine-tuned for real on the visitor's rows at every move of a slider.

    model.py      the model, in numpy, and what is shipped of it: weights.npz, known.json
    adam.py       what moves its numbers
    pretrain.py   how it was made
    rows.py       some of the visitor's rows
    tune.py       one fine-tune: curves, an answer before and after, what happened

It is no small copy of the model that a job trains: it has thousands of numbers instead of billions, sees the
beginning of each answer only, and babbles. What it shares with real ones is how settings act on it.

Trained for a minute on the practice model's own generated text; loss on chats it had not read: 0.64 in
English, 0.81 in Chinese (nats a character, 2026-11). Weights and text are CC0, like the practice model's.
"""

from lib.playground.model import LONGEST
from lib.playground.rows import HELD_BACK, TRAINED, Sample, sample
from lib.playground.tune import MOST_STEPS, Chosen, Played, chosen, numbers, play, rate, real_rate

__all__ = [
    "HELD_BACK",
    "LONGEST",
    "MOST_STEPS",
    "TRAINED",
    "Chosen",
    "Played",
    "Sample",
    "chosen",
    "numbers",
    "play",
    "rate",
    "real_rate",
    "sample",
]
