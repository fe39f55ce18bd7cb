"""The code that repeats what a screen did: a command line, or a script that needs nothing of ours.

`commands.py` has the command lines, `program.py` puts the script together, `fragments.py` has its parts.
"""

from __future__ import annotations

from lib.script.commands import chat, check, convert, train
from lib.script.program import independent

__all__ = ["chat", "check", "convert", "independent", "train"]
