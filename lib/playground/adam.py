"""Adam, as every trainer of language models uses it, with the gradient's length held to 1 like ours does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]

FIRST, SECOND, SMALL, LONGEST = 0.9, 0.999, 1e-8, 1.0


class Adam:
    """The running averages of one row of numbers that are trained."""

    def __init__(self, size: int) -> None:
        self._mean = np.zeros(size, np.float32)
        self._square = np.zeros(size, np.float32)
        self._room = np.zeros(size, np.float32)
        self._steps = 0

    def step(self, numbers: Numbers, slope: Numbers, rate: float) -> None:
        """Change `numbers` in place, against their slope. `slope` is used up."""
        self._steps += 1
        length = float(np.dot(slope, slope)) ** 0.5
        if length > LONGEST:
            slope *= np.float32(LONGEST / length)
        # in place throughout: for so short rows the time goes into making new ones
        room, mean, square = self._room, self._mean, self._square
        mean *= np.float32(FIRST)
        np.multiply(slope, np.float32(1 - FIRST), out=room)
        mean += room
        np.multiply(slope, slope, out=room)
        room *= np.float32(1 - SECOND)
        square *= np.float32(SECOND)
        square += room
        np.sqrt(square, out=room)
        room *= np.float32((1 - SECOND**self._steps) ** -0.5)
        room += np.float32(SMALL)
        np.divide(mean, room, out=room)
        room *= np.float32(rate / (1 - FIRST**self._steps))
        numbers -= room
