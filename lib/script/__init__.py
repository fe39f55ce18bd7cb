"""The code that repeats what a screen did: a command line, or a script that needs nothing of ours.

`commands.py` has the command lines, `download.py` what repeats a download, `program.py` puts the script of a
conversion together, `fragments.py` has its parts, `load.py` has what loads a tuned model.
"""

from __future__ import annotations

from lib.script.commands import chat, check, convert, export, score, send, train, upload
from lib.script.download import download, hf_download, python_download
from lib.script.program import independent

__all__ = [
    "chat",
    "check",
    "convert",
    "download",
    "export",
    "hf_download",
    "independent",
    "python_download",
    "score",
    "send",
    "train",
    "upload",
]
