"""What a file is, as the other modules know it; lib/records/sniffing.py finds it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The largest single row; what is longer is reported broken, so that memory stays bounded.
MOST = 1 << 26


@dataclass(frozen=True, slots=True)
class Shape:
    """What was found out about a file.

    `kind` is "array", "objects" (pretty-printed, one after the other), "lines", "csv" or "parquet". `begin`
    is the byte the data begins at: behind a byte order mark, behind an array's bracket on line `begin_line`
    (counted in UTF-8, whatever the encoding). Of an array, `key` is how its records begin; `inside` names the
    key of the object it lies in, `unwrap` the key that holds each record. `compression` is what the file is
    packed in: "", "gzip", "bzip2", "xz" or "zstd". `copy` is its unpacked UTF-8 text, where there is one.
    """

    path: Path
    size: int
    kind: str
    encoding: str = "utf-8"
    begin: int = 0
    begin_line: int = 1
    key: bytes = b""
    inside: str = ""
    unwrap: str = ""
    delimiter: str = ","
    compression: str = ""
    copy: Path | None = None

    @property
    def name(self) -> str:
        """What the kind is called: `shape.NAME` in each language."""
        return "tsv" if self.delimiter == "\t" else self.kind

    @property
    def packed(self) -> bool:
        """Whether the file's bytes are not the UTF-8 that is read: no place in it can be jumped to."""
        return not self.copy and (bool(self.compression) or self.encoding != "utf-8")

    @property
    def nested(self) -> bool:
        """Whether the array lies inside an object."""
        return bool(self.inside)
