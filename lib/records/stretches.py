"""One file worked on by several processes: cut where rows seem to begin, every cut proved before it counts.

    cuts(path)                   [0, 16777301, 33554518, …]
    stretch 1  rows 1 … 7650     ended at 16777301: the cut was right, stretch 2 counts
    stretch 2  rows 7651 …       ended at 33554530: the cut lay inside a row; from there it is read again

A stretch counts its rows and lines from 1; its base says how many lie before it. Results come in the order
of the file, so whoever puts them together gets what one process would have got.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from os import _exit
from pathlib import Path
from threading import Thread
from typing import TypeVar

from lib.records import parquet, tables
from lib.records.row import Piece, Progress, Start
from lib.records.shape import Shape
from lib.records.sniffing import sniff
from lib.records.source import open_utf8
from lib.records.stream import rows, told

R = TypeVar("R")
Work = Callable[[Iterator[Piece]], R]
Task = Callable[[Shape, int, int | None, Progress], tuple[Start, R]]

SIZE = 1 << 24

# Below this a second process costs more than it brings: it takes 0.1 to 0.2 s to start.
LEAST = 1 << 25


def cuts(path: Path, size: int = SIZE) -> list[int]:
    """Return places about `size` bytes apart where a row seems to begin; the first is 0.

    For Parquet they are numbers of row groups. A file that cannot be cut gives [0].
    """
    return _cuts(sniff(path), size)


def spread(
    path: Path,
    work: Work[R],
    *,
    processes: int = 1,
    progress: Progress = None,
    size: int = SIZE,
    least: int = LEAST,
) -> Iterator[tuple[Start, R]]:
    """Yield what `work` makes of each stretch of a file, in order, with the stretch's base.

    Add `base.number - 1` to the numbers and `base.line - 1` to the lines that `work` saw, or use `moved`.
    Files under `least` bytes, and all of them with one process, are one stretch, worked on in this process.
    `work` is a function of a module, as multiprocessing asks for; it is given an iterator of pieces.
    `progress` is told how many bytes are behind. Raises what `read` and `work` raise; then, and when the
    caller stops asking, the other processes end at once. They end with this one too, however it dies.
    """
    task = partial(_worked, work)
    return proved(sniff(path), task, processes=processes, progress=progress, size=size, least=least)


def proved(
    shape: Shape,
    task: Task[R],
    *,
    processes: int = 1,
    progress: Progress = None,
    size: int = SIZE,
    least: int = LEAST,
) -> Iterator[tuple[Start, R]]:
    """Yield what `task` makes of each stretch, as `spread` does. It returns the `Start` reached, too."""
    places = _cuts(shape, size) if processes > 1 and shape.size >= least else [0]
    if len(places) == 1:
        yield Start(), task(shape, 0, None, progress)[1]
        return
    with _pool(min(processes, len(places))) as pool:

        def start(begin: int, stop: int | None) -> Future[tuple[Start, R]]:
            return pool.submit(task, shape, begin, stop, None)

        waiting = deque(zip(places, [*places[1:], None], strict=True))
        running: deque[tuple[int, int | None, Future[tuple[Start, R]]]] = deque()
        base = Start()
        while waiting or running:
            while waiting and len(running) <= processes:
                begin, stop = waiting.popleft()
                running.append((begin, stop, start(begin, stop)))
            begin, stop, future = running.popleft()
            if begin != base.offset:
                future.cancel()
                if stop is not None and stop <= base.offset:
                    continue
                future = start(base.offset, stop)
            reached, result = future.result()
            ended = stop is None or (shape.kind != "parquet" and reached.offset >= shape.size)
            if progress:
                behind = reached.offset
                if shape.kind == "parquet":
                    behind = shape.size * behind // (places[-1] + 1)
                progress(shape.size if ended else behind)
            yield base, result
            if ended:
                return
            base = Start(reached.offset, base.number + reached.number - 1, base.line + reached.line - 1)


def _worked(work: Work[R], shape: Shape, begin: int, stop: int | None, progress: Progress) -> tuple[Start, R]:
    reached = Start()

    def pieces() -> Generator[Piece, None, None]:
        nonlocal reached
        reached = yield from rows(shape, Start(begin), stop, progress)

    stretch = pieces()
    result = work(stretch)
    for _ in stretch:  # where the stretch ends is known at its end only
        pass
    return reached, result


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _begin, (ear,))
    try:
        yield pool
    except BaseException:
        mouth.close()
        # One that ends amid sending a result leaves half of it in the pipe, and the pool would wait for the
        # rest for ever: it holds the pipe's other end open itself.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        mouth.close()
        ear.close()


def _begin(ear: Connection) -> None:
    """Prepare a worker: it ends at once when the other end of the pipe is closed, be it by force."""

    def listen() -> None:
        with suppress(EOFError, OSError):
            ear.recv()
        _exit(1)

    Thread(target=listen, daemon=True).start()


def _cuts(shape: Shape, size: int) -> list[int]:
    with told(shape.path):
        if shape.kind == "parquet":
            return parquet.cuts(shape, size)
        seek = _SEEK.get(shape.kind)
        begin = seek(shape) if seek and not shape.packed else None
        if not begin:
            return [0]
        places, place = [0], size
        with open_utf8(shape) as file:
            while place < shape.size:
                found = _first(file, max(place, shape.begin + 1), begin)
                if found is not None:
                    places.append(found)
                place = max(place, found or 0) + size
        return places


Begin = Callable[[bytes], int | None]


def _first(file: io.RawIOBase, place: int, begin: Begin) -> int | None:
    """Return the offset at or behind `place` where `begin` finds a row's beginning, if it is near."""
    file.seek(place - 1)
    text = b""
    while len(text) < _FAR:
        part = file.read(max(_NEAR, len(text))) or b""
        text += part
        found = begin(text)
        if found is not None:
            return place - 1 + found
        if not part:
            break
    return None


def _in_array(shape: Shape) -> Begin | None:
    """Find rows by the key of the first one, and by the indentation before it where there is one.

    Inside a string the key's quotes would be escaped: only an object inside a row can look like a row.
    """
    with open_utf8(shape, shape.begin) as file:
        lead = re.match(rb"\s*", file.read(_NEAR) or b"")
    assert lead
    space, key = lead[0], shape.key

    def begin(text: bytes) -> int | None:
        place = text.find(space + key, 1)
        if place >= 0:
            return place + len(space)
        place = text.find(key, 1)
        return place if place >= 0 and len(text) > 4 * _NEAR else None

    return begin if key else None


def _in_lines(_shape: Shape) -> Begin:
    def begin(text: bytes) -> int | None:
        place = text.find(b"\n") + 1
        return place if 0 < place < len(text) else None

    return begin


def _in_table(shape: Shape) -> Begin:
    """Take the first line from which rows of the right width follow, with no quote where none belongs.

    Inside quotes that happens seldom: the line of the closing quote gives it away.
    """
    row = tables.row_pattern(shape.delimiter, len(tables.header(shape)[0]))

    def begin(text: bytes) -> int | None:
        place = 0
        for _ in range(_LINES):
            at = place = text.find(b"\n", place) + 1
            if not place:
                return None
            for _ in range(_ROWS):
                found = row.match(text, at)
                if not found:
                    break
                at = found.end()
            else:
                return place
            if place < at == len(text):
                return place
        return None

    return begin


_NEAR, _FAR = 1 << 17, 1 << 22
_LINES, _ROWS = 200, 8
_SEEK: dict[str, Callable[[Shape], Begin | None]] = {
    "array": _in_array,
    "lines": _in_lines,
    "csv": _in_table,
}
