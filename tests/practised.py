"""Real runs of the practice model on the bundled sample, each made once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lib.jobfolder import JobFolder
from lib.practice import measure

Practised = Callable[[str], JobFolder]


@pytest.fixture(scope="session")
def practised(tmp_path_factory: pytest.TempPathFactory) -> Practised:
    """Return a function that trains with the settings that a run's name sets, the first time it is asked."""
    made: dict[str, JobFolder] = {}

    def run(name: str) -> JobFolder:
        if name not in made:
            place = tmp_path_factory.mktemp("practised") / "job"
            made[name] = measure.train(place, measure.settings_of(name))
        return made[name]

    return run
