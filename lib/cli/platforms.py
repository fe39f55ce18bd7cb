"""Send a training to a platform."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from lib import backends, handover, jobs, keys
from lib.backends import hf_jobs
from lib.cli.parts import DataFolder, Json, SetTo, TalkedWith, Wait, set_to, tell, tell_entered
from lib.errors import UsageError


def send(
    place: Annotated[str, typer.Option(help="Which platform: " + ", ".join(backends.remotes()) + ".")],
    data: DataFolder,
    model: Annotated[str, typer.Option(help="A base model, as the platform spells it.")],
    at: Annotated[str, typer.Option(help="Address, account or resource, where the platform needs one.")] = "",
    given: SetTo = None,
    hardware: Annotated[str, typer.Option(help="The machine to rent; Hugging Face Jobs only.")] = (
        hf_jobs.HARDWARE
    ),
    hours: Annotated[float, typer.Option(min=0.1, help="When it is given back at the latest.")] = 2.0,
    system: TalkedWith = "",
    yes: Annotated[bool, typer.Option("--yes", help="The cost is known; start the job.")] = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Send a training job to a platform, with the key in the environment, a secrets file or the keyring.

    Without --yes it only says what the job would cost.
    """
    known = backends.remotes()
    if place not in known:
        raise UsageError("usage.unknown_platform", name=place, known=", ".join(known))
    there = known[place]
    asked = {"kind": "platform", "id": model} | ({there.needs: at} if there.needs else {})
    if isinstance(there, backends.HuggingFaceJobs):
        asked |= {"hardware": hardware, "hours": f"{hours:g}"}
    settings = there.defaults(asked) | set_to(given, there.ranges)
    if not yes:
        there.train_file(data)  # no price is told of rows that are not there
        cost = there.cost(data, asked, settings)
        price = "unknown" if cost.amount is None else f"{cost.amount:,.2f} {cost.currency}"
        least = "" if cost.minimum is None else f", at least {cost.minimum:,.2f} {cost.currency}"
        tell(as_json, asdict(cost), f"about {cost.tokens:,} tokens, price {price}{least}")
        raise UsageError("platform.not_confirmed", platform=there.profile.label)
    key = keys.find(there.key_variable)[0]
    there.wire(key, there.address_of(asked))  # a key or an address that can be none is told now
    name = data.resolve().name
    job = there.sending(name, data, asked, settings, system, lambda folder: handover.offer(folder, key))
    while not (wait or job.folder.status() or jobs.get(job.id).state in jobs.ENDED):
        time.sleep(jobs.TICK)  # until its process has the key, which this one hands over
    tell_entered(job, wait=wait, as_json=as_json)
