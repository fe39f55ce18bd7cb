"""What a visitor typed for this visit, handed to a job's process: over no disk, argument, variable or log.

    app       offer(folder, "hf_…")      answers, while the app lives, whoever can read the job's folder
    worker    take(folder)               asks the app; raises where that is gone

In the job's folder is only `handover.json`: where to ask, and a key made for that one channel. A job started
again, after a kill, asks again. The channel is a socket of this computer (a named pipe on Windows) that only
this user can open.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

from lib.errors import JobError
from lib.jobfolder import JobFolder
from lib.workspace import read_json, write_json


@dataclass(frozen=True, slots=True)
class _Offer:
    """Where a secret is offered, and whether it was withdrawn."""

    address: str
    withdrawn: threading.Event


_offers: dict[str, _Offer] = {}


def offer(folder: JobFolder, secret: str) -> None:
    """Answer with `secret` whoever asks for it on behalf of a job, as long as this process lives."""
    withdraw(folder)
    key = secrets.token_bytes(32)
    listener = Listener(authkey=key)
    made = _Offer(str(listener.address), threading.Event())
    _offers[str(folder.path)] = made
    answering = (listener, secret, made.withdrawn)
    threading.Thread(target=_answer, args=answering, name="handover", daemon=True).start()
    write_json(folder.path / "handover.json", {"address": made.address, "key": key.hex()})


def withdraw(folder: JobFolder) -> None:
    """Answer no more; nothing happens where nothing was offered."""
    made = _offers.pop(str(folder.path), None)
    if made:
        made.withdrawn.set()
        with suppress(OSError):
            Client(made.address).close()  # only who asks wakes the one that waits to be asked


def take(folder: JobFolder) -> str:
    """Return what was offered. Raises `JobError` `job.secret_gone` where the app that held it is gone."""
    known = read_json(folder.path / "handover.json")
    try:
        if not isinstance(known, dict):
            raise FileNotFoundError
        with Client(known["address"], authkey=bytes.fromhex(known["key"])) as asking:
            return asking.recv_bytes().decode()
    except (OSError, EOFError, AuthenticationError, KeyError, ValueError) as error:
        raise JobError("job.secret_gone") from error


def _answer(listener: Listener, secret: str, withdrawn: threading.Event) -> None:
    with listener:
        while not withdrawn.is_set():
            with (
                suppress(EOFError, AuthenticationError, ConnectionError),  # without the key, or gone again
                listener.accept() as asked,
            ):
                if not withdrawn.is_set():
                    asked.send_bytes(secret.encode())
