"""The places where a job can be done: this computer, and platforms.

    base.py          the seam: what a place says of itself and what it must do
    local.py         this computer: lib/jobs.py and lib/trainer
    siliconflow.py   a platform whose fine-tunes are started by hand in its console
    remote.py        what all platforms asked over the network have in common; profiles.toml says what differs
    openai_ft.py, together.py, fireworks.py, dashscope.py   the wire shapes
    hf_jobs.py       our trainer on rented hardware
    wire.py          the HTTP; follow.py the process of a job at a platform

To add a platform of a wire shape that is here: a table in `profiles.toml`, its words `place.NAME.*` in each
language, a row in `tests/platforms.py`. Of another shape: a `Remote` in a file here, and its row in SHAPES.
Pages, command line and checks follow from those.
"""

from lib.backends import local, siliconflow
from lib.backends.base import Backend, Model
from lib.backends.dashscope import DashScopeShaped
from lib.backends.fireworks import FireworksShaped
from lib.backends.hf_jobs import HuggingFaceJobs
from lib.backends.openai_ft import OpenAIShaped
from lib.backends.profile import profiles
from lib.backends.remote import Remote
from lib.backends.together import TogetherShaped

__all__ = [
    "BACKENDS",
    "SHAPES",
    "Backend",
    "HuggingFaceJobs",
    "Model",
    "Remote",
    "local",
    "remotes",
    "siliconflow",
]

SHAPES: dict[str, type[Remote]] = {
    "openai": OpenAIShaped,
    "together": TogetherShaped,
    "fireworks": FireworksShaped,
    "dashscope": DashScopeShaped,
    "hf_jobs": HuggingFaceJobs,
}
"""The wire shapes that platforms of `profiles.toml` may have."""

BACKENDS: dict[str, Backend] = {
    place.name: place
    for place in (
        local.Local(),
        siliconflow.SiliconFlow(),
        *(SHAPES[profile.shape](profile) for profile in profiles().values()),
    )
}
"""What every place to train says of itself, and what it must do."""


def remotes() -> dict[str, Remote]:
    """Return the platforms asked over the network, by name."""
    return {name: one for name, one in BACKENDS.items() if isinstance(one, Remote)}
