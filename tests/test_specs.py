"""Every request we make to OpenAI and Together, held against their own specifications by Prism.

Wanted are the specifications in `../shared/specs` (or `$FIRSTTUNE_SPECS`) and Prism, which `make specs` puts
into `.prism`. Prism answers 422 to what breaks a specification, 401 without a key; it has no state machine.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lib import backends, params
from lib.backends import Remote
from lib.errors import BackendError
from tests.conftest import ROOT
from tests.platforms import ROWS
from tests.processes import until

SPECS = Path(os.environ.get("FIRSTTUNE_SPECS") or ROOT.parent / "shared" / "specs")
PRISM = ROOT / ".prism" / "node_modules" / ".bin" / "prism"
FILES = {"openai": "openai-fine-tuning.yaml", "together": "together-fine-tuning.yaml"}
KEY = "sk-for-prism-0123456789"
pytestmark = [
    pytest.mark.skipif(not SPECS.is_dir(), reason=f"no specifications in {SPECS}"),
    pytest.mark.skipif(not PRISM.exists(), reason="no Prism: make specs installs it"),
]


@pytest.fixture(scope="module", params=FILES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """One platform whose address is a Prism with its specification."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("prism") / "log").open("wb")
    command = [str(PRISM), "mock", str(SPECS / FILES[request.param]), "-p", str(port), "-h", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def there() -> bool:
        assert server.poll() is None, Path(log.name).read_text(encoding="utf-8")
        try:
            return requests.get(f"{url}/nothing", timeout=5).status_code == 404
        except requests.ConnectionError:
            return False

    try:
        until(there, 90)
        known = backends.remotes()[request.param]
        yield type(known)(known.profile, url, silence=20)
    finally:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    row = b'{"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}\n'
    (tmp_path / "train.jsonl").write_bytes(row * 12)
    (tmp_path / "validation.jsonl").write_bytes(row)
    return tmp_path


def test_every_request_is_accepted(place: Remote, data: Path) -> None:
    wire, name = place.wire(KEY), place.name
    model = {"kind": "platform", **ROWS[name].model}
    files = {part: place.upload(wire, data / f"{part}.jsonl", _quiet) for part in ("train", "validation")}
    assert all(files.values())
    asked = {"model": model, "settings": place.defaults(model)}
    job = place.submit(wire, place.request(asked, files, "ft123456"))
    place.find(wire, files)
    assert place.status(wire, job).raw
    place.events(wire, job)
    place.cancel(wire, job)
    place.offered(wire)
    assert place.limits(wire, model)
    assert place.cost(data, model, place.defaults(model), wire).asked == place.asks_price


def test_every_stop_of_every_slider_is_accepted(place: Remote) -> None:
    wire = place.wire(KEY)
    model = {"kind": "platform", **ROWS[place.name].model}
    start = place.defaults(model)
    for name in place.ranges:
        stops = params.stops(name, place.ranges)
        for value in (stops[0], stops[-1]):
            settings = params.checked(start | {name: value}, place.ranges)
            body = place.request({"model": model, "settings": settings}, {"train": "file-1"}, "ft123456")
            assert place.submit(wire, body)


def test_what_breaks_a_specification_is_refused(place: Remote) -> None:
    """The check can fail: Prism sees a wrong value, a missing one, and a missing key."""
    wire = place.wire(KEY)
    model = {"kind": "platform", **ROWS[place.name].model}
    asked = {"model": model, "settings": place.defaults(model)}
    good = place.request(asked, {"train": "file-1"}, "ft123456")
    for broken in (good | {"training_file": 7}, {n: v for n, v in good.items() if n != "model"}):
        with pytest.raises(BackendError) as refused:
            place.submit(wire, broken)
        assert refused.value.facts["status"] == 422
    assert requests.get(f"{place.address}{place.profile.jobs}", timeout=20).status_code == 401


def _quiet(done: int, total: int) -> None:
    del done, total
