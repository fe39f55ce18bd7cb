"""The endpoint doctor: every verdict from a real server or a real dead end, in time."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from lib import hub, words
from lib.errors import HubError
from lib.hub import doctor
from lib.hub import endpoint as endpoints
from lib.hub.doctor import Visit, all_offline, examine, ranked
from tests.fakehub import FakeHub
from tests.fakescope import FakeScope

REPO = "Conard/fortune-telling"
REF = hub.Ref(REPO)
SECRET = "hf_SECRETsecretSECRET"
BIG = bytes(range(256)) * 6000
FILES = {"README.md": b"# Tea\n", "small.json": b"[1]" * 3000, "big.parquet": BIG}


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add_repo(REPO, FILES)
        yield server


@pytest.fixture
def other() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add_repo(REPO, FILES)
        yield server


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch, no_proxy: None) -> None:
    """Make this computer one whose name server knows nothing."""
    real = socket.getaddrinfo

    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("127.0.0.1", "localhost"):
            return real(host, *rest, **more)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def dead(host: str = "127.0.0.1") -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return f"http://{host}:{bound.getsockname()[1]}"


def visit(endpoint: str, ref: hub.Ref = REF, **how: Any) -> Visit:
    (one,) = examine(ref, [endpoint], **how)
    said_in_full(one)
    return one


def said_in_full(one: Visit) -> None:
    """Every visit has its label and its sentence, and the sentence has all its facts."""
    key, facts = one.told()
    for lang in words.languages():
        assert words.say(lang, f"doctor.verdict.{one.verdict}")
        sentence = words.say(lang, key, **facts)
        assert not {"{", "None"} & set(sentence.replace("None", "{")), sentence
        assert SECRET not in sentence


def why(one: Visit) -> str:
    assert one.error
    return one.error.key


# What works


def test_an_endpoint_that_works_is_measured_with_the_largest_file(fake: FakeHub) -> None:
    one = visit(fake.url)
    assert (one.verdict, one.usable, one.error, one.behind) == ("fast", True, None, False)
    assert one.commit == fake.repos["dataset", REPO].revisions["main"]
    assert (one.file, one.size) == ("big.parquet", len(BIG))
    assert one.hosts == (f"127.0.0.1:{fake.port}", f"localhost:{fake.port}")
    assert one.milliseconds is not None
    assert one.speed and one.speed > doctor.SLOW
    assert 0 < one.seconds < 10
    (seen,) = fake.asked("/cdn/")
    assert seen.headers["range"] == f"bytes=0-{doctor.SAMPLE - 1}"
    assert fake.sent("/cdn/") == doctor.SAMPLE


def test_the_file_that_was_pointed_at_is_the_one_tried(fake: FakeHub) -> None:
    one = visit(fake.url, replace(REF, path="small.json"))
    assert (one.verdict, one.file) == ("fast", "small.json")
    assert one.speed is None  # nine thousand bytes say nothing
    assert one.told()[0] == "doctor.say.fast_small"
    assert not fake.asked("/cdn/")


def test_a_file_on_a_later_page_of_the_list_is_found() -> None:
    with FakeHub(page=5) as fake:
        fake.add_repo(REPO, {f"{n:02}.json": b"[]" for n in range(30)})
        assert visit(fake.url, replace(REF, path="27.json")).file == "27.json"
        assert len(fake.asked("/tree/")) == 6
        assert visit(fake.url).file == "00.json"
        assert len(fake.asked("/tree/")) == 7


def test_an_empty_file_and_a_model_are_no_trouble(fake: FakeHub) -> None:
    fake.add_repo("a/b", {"config.json": b"{}", "model.safetensors": BIG}, kind="model")
    assert visit(fake.url, hub.Ref("a/b", kind="model")).file == "model.safetensors"
    fake.add_repo("a/c", {"empty.json": b""})
    assert visit(fake.url, hub.Ref("a/c")).verdict == "fast"


def test_a_throttled_endpoint_is_slow(fake: FakeHub) -> None:
    with FakeHub(bps=100_000) as slow:
        slow.add_repo(REPO, FILES)
        one, two = examine(REF, [slow.url, fake.url])
        said_in_full(one)
        assert (one.verdict, one.usable) == ("slow", True)
        assert one.speed and one.speed == pytest.approx(100_000, rel=0.5)
        assert ranked([one, two]) == [fake.url, slow.url]


def test_a_server_that_ignores_the_range_is_left_after_the_sample(fake: FakeHub) -> None:
    fake.add_repo(REPO, {"big.parquet": bytes(30_000_000)})
    fake.fault("/cdn/", "no_range", times=None)
    fake.fault("/cdn/", "no_length", times=None)
    assert visit(fake.url).verdict == "fast"
    assert fake.sent("/cdn/") < 20_000_000


@pytest.mark.parametrize("kind", ["reset", "truncate", "stall"])
def test_a_connection_that_breaks_after_a_while_can_still_be_used(fake: FakeHub, kind: str) -> None:
    fake.fault("/cdn/", kind, at=400_000, times=None)
    one = visit(fake.url, timeout=1.5)
    assert (one.verdict, one.usable) == ("slow", True)
    assert one.error
    assert one.told()[0] == "doctor.say.slow_cut"
    assert ranked([one]) == [fake.url]


@pytest.mark.parametrize(
    "fault", [{"kind": "drop"}, {"kind": "status", "status": 503}, {"kind": "status", "status": 502}]
)
@pytest.mark.parametrize("where", ["/revision/", "/resolve/"])
def test_one_bad_moment_condemns_nobody(fake: FakeHub, where: str, fault: dict[str, Any]) -> None:
    fake.fault(where, **fault)
    assert visit(fake.url).verdict == "fast"


def test_modelscope_is_visited_in_its_own_words() -> None:
    ref = hub.Ref("org/tea", "master", site="modelscope")
    with FakeScope() as scope:
        scope.add_repo("org/tea", FILES, revision="master")
        scope.add_repo("org/mine", FILES, revision="master", gated=True)
        one = visit(scope.url, ref, token=SECRET, anywhere=True)
        assert (one.verdict, one.file) == ("fast", "big.parquet")
        assert one.commit == scope.repos["dataset", "org/tea"].revisions["master"]
        assert visit(scope.url, replace(ref, path="small.json")).verdict == "fast"
        assert visit(scope.url, replace(ref, repo="org/none")).verdict == "not_found"
        assert visit(scope.url, replace(ref, repo="org/mine")).verdict == "gated"
        scope.fault("/resolve/", "html", times=None)
        assert visit(scope.url, ref).verdict == "portal"
        assert not any("authorization" in seen.headers for seen in scope.log)


# The answers of a Hub


@pytest.mark.parametrize(
    ("where", "fault", "verdict", "key"),
    [
        ("@api", {"kind": "html"}, "portal", "hub.not_a_hub"),
        ("@api", {"kind": "json"}, "portal", "hub.not_a_hub"),
        ("/tree/", {"kind": "json"}, "portal", "hub.not_a_hub"),
        ("/cdn/", {"kind": "html"}, "portal", "hub.not_a_hub"),
        ("/resolve/", {"kind": "html"}, "portal", "hub.not_a_hub"),
        ("@api", {"kind": "status", "status": 404}, "not_found", "hub.not_found"),
        ("@api", {"kind": "status", "status": 401}, "not_found", "hub.not_found"),
        ("@api", {"kind": "status", "status": 403}, "forbidden", "hub.forbidden"),
        ("@api", {"kind": "status", "status": 407}, "proxy", "hub.no_connection"),
        ("@api", {"kind": "status", "status": 429, "retry_after": 17}, "rate_limited", "hub.rate_limited"),
        ("/resolve/", {"kind": "status", "status": 429}, "rate_limited", "hub.rate_limited"),
        ("@api", {"kind": "status", "status": 503}, "server_error", "hub.server_error"),
        ("/resolve/", {"kind": "status", "status": 500}, "server_error", "hub.server_error"),
        (
            "/resolve/",
            {"kind": "status", "status": 404, "code": "EntryNotFound"},
            "no_file",
            "hub.file_not_found",
        ),
        ("/cdn/", {"kind": "status", "status": 403}, "storage", "hub.server_error"),
        ("@api", {"kind": "drop"}, "reset", "hub.no_connection"),
        ("/resolve/", {"kind": "drop"}, "reset", "hub.no_connection"),
        ("/cdn/", {"kind": "drop"}, "storage", "hub.bounced"),
    ],
)
def test_every_failure_has_its_verdict(
    fake: FakeHub, where: str, fault: dict[str, Any], verdict: str, key: str
) -> None:
    fake.fault(where, times=None, **fault)
    one = visit(fake.url)
    assert (one.verdict, why(one), one.usable) == (verdict, key, False)
    assert ranked([one]) == []
    if "retry_after" in fault:
        assert one.told()[1]["seconds"] == 17


def test_a_gate_is_named_with_its_page(fake: FakeHub) -> None:
    fake.add_repo(REPO, FILES, gated=True)
    one = visit(fake.url)
    assert (one.verdict, why(one)) == ("gated", "hub.gated")
    assert one.told()[1]["page"] == f"https://huggingface.co/datasets/{REPO}"
    fake.tokens.add(SECRET)
    assert visit(fake.url, token=SECRET).verdict == "gated"  # it was not sent
    assert visit(fake.url, token=SECRET, anywhere=True).verdict == "fast"


def test_what_is_not_there_is_told_apart(fake: FakeHub) -> None:
    assert visit(fake.url, hub.Ref("a/nothing")).verdict == "not_found"
    revision = visit(fake.url, replace(REF, revision="nope"))
    assert (revision.verdict, why(revision)) == ("not_found", "hub.revision_not_found")
    fake.add_repo("a/empty", {})
    assert visit(fake.url, hub.Ref("a/empty")).verdict == "no_file"


def test_a_token_that_is_refused_is_named_but_not_shown(fake: FakeHub) -> None:
    one = visit(fake.url, token=SECRET, anywhere=True)
    assert (one.verdict, why(one)) == ("bad_token", "hub.bad_token")
    assert visit(fake.url, token="no token", anywhere=True).verdict == "bad_token"
    assert SECRET not in repr(one)


def test_a_file_of_another_size_is_not_trusted(fake: FakeHub) -> None:
    """A mirror's list is of one commit and its storage has another file."""
    held = fake.repos["dataset", REPO]
    commit = held.revisions["main"]
    kept = held.commits[commit]["big.parquet"]
    row = kept.as_tree("big.parquet")
    kept.as_tree = lambda path: row | {"size": 5, "lfs": {**row["lfs"], "size": 2_000_000}}  # type: ignore[method-assign]
    one = visit(fake.url)
    assert (one.verdict, why(one)) == ("corrupt", "hub.corrupt")


# The network between


def test_a_mirror_that_bounces_can_be_used_where_it_leads_somewhere(fake: FakeHub, other: FakeHub) -> None:
    fake.fault("", "bounce", times=None, to=other.url)
    one, two = examine(REF, [fake.url, other.url])
    said_in_full(one)
    assert (one.verdict, one.usable, one.error) == ("bounces", True, None)
    assert one.hosts[:2] == (f"127.0.0.1:{fake.port}", f"127.0.0.1:{other.port}")
    assert one.told()[0] == "doctor.say.bounces"
    assert ranked([one, two]) == [other.url, fake.url]


def test_a_mirror_that_bounces_only_for_the_file_is_found_out(fake: FakeHub, other: FakeHub) -> None:
    fake.fault("/resolve/", "bounce", times=None, to=other.url)
    one = visit(fake.url)
    assert (one.verdict, one.usable) == ("bounces", True)
    assert visit(fake.url, replace(REF, path="small.json")).elsewhere == f"127.0.0.1:{other.port}"


@pytest.mark.parametrize("where", ["", "/resolve/"])
def test_a_mirror_that_bounces_to_a_dead_host_cannot_be_used(fake: FakeHub, where: str) -> None:
    fake.fault(where, "bounce", times=None, to=dead("localhost"))
    one = visit(fake.url)
    assert (one.verdict, why(one), one.usable) == ("bounces", "hub.bounced", False)
    assert one.told()[0] == "doctor.say.bounces_dead"
    assert one.told()[1]["host"] == "localhost"


def test_a_gate_behind_a_bounce_is_no_question_of_the_token(fake: FakeHub, other: FakeHub) -> None:
    fake.tokens.add(SECRET)
    fake.fault("/resolve/", "bounce", times=None, to=other.url)
    other.add_repo(REPO, FILES, private=True)
    one = visit(fake.url, token=SECRET, anywhere=True)
    assert one.verdict == "not_found"
    assert not [seen for seen in other.log if "authorization" in seen.headers]


@pytest.mark.parametrize("to", ["dead", "silent"])
def test_storage_that_cannot_be_reached_is_named(fake: FakeHub, to: str) -> None:
    if to == "dead":
        fake.fault("/resolve/", "away", times=None, to=f"{dead('localhost')}/storage/xyz?Signature=abc")
    else:
        fake.fault("/cdn/", "silent", times=None)
    one = visit(fake.url, timeout=1.5)
    assert (one.verdict, why(one)) == ("storage", "hub.bounced")
    assert one.commit
    assert one.told()[1]["host"] == "localhost"
    assert one.error and one.error.facts["why"] == {"dead": "refused", "silent": "timeout"}[to]


def test_a_login_page_on_another_host_is_a_portal(fake: FakeHub, other: FakeHub) -> None:
    other.fault("", "html", times=None)
    fake.fault("", "away", times=None, to=f"http://localhost:{other.port}/login?back=x")
    one = visit(fake.url)
    assert (one.verdict, why(one)) == ("portal", "hub.not_a_hub")
    assert one.told()[0] == "doctor.say.portal_elsewhere"
    assert one.told()[1]["host"] == f"localhost:{other.port}"


@pytest.mark.parametrize("to", ["http://[", "app://login", "//"])
def test_a_redirect_to_what_is_no_address_is_a_portal(fake: FakeHub, to: str) -> None:
    fake.fault("", "away", times=None, to=to)
    assert visit(fake.url).verdict == "portal"


def test_a_ring_of_redirects_ends(fake: FakeHub) -> None:
    fake.fault("", "away", times=None, to="/login")
    assert visit(fake.url).verdict == "portal"
    assert len(fake.log) < 10


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/"])
def test_silence_is_told_within_the_timeout(fake: FakeHub, where: str) -> None:
    fake.fault(where, "silent", times=None)
    began = time.monotonic()
    one = visit(fake.url, timeout=0.8)
    assert time.monotonic() - began < 1.2
    assert (one.verdict, why(one)) == ("timeout", "hub.timeout")
    assert one.told()[1]["seconds"] == 0.8


def test_a_server_that_drips_is_left_within_the_timeout() -> None:
    with FakeHub(bps=20) as drip:
        drip.add_repo(REPO, FILES)
        began = time.monotonic()
        assert visit(drip.url, timeout=0.7).verdict == "timeout"
        assert time.monotonic() - began < 1.1


def test_a_headline_that_never_ends_is_left_within_the_timeout() -> None:
    """The socket's own timeout begins again with every byte."""
    over = threading.Event()

    class Drip(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            while not over.wait(0.05):
                self.wfile.write(b"H")

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        began = time.monotonic()
        one = visit(f"http://127.0.0.1:{server.server_port}", timeout=0.7)
        assert time.monotonic() - began < 1.1
        over.set()
        server.shutdown()
    assert one.verdict == "timeout"


def test_a_dead_port_is_refused() -> None:
    assert visit(dead()).verdict == "refused"


def test_a_dead_proxy_is_named() -> None:
    assert visit("http://hub.example").verdict == "proxy"  # the tests' proxy leads nowhere
    assert visit("https://hub.example").verdict == "proxy"


def test_a_name_nobody_knows_is_a_matter_of_dns(no_names: None) -> None:
    assert visit("https://hub.example").verdict == "dns"


def test_a_name_server_that_is_silent_does_not_hold_us_up(
    monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    over = threading.Event()

    def lookup(*_: Any, **__: Any) -> Any:
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    began = time.monotonic()
    one = visit("https://hub.example", timeout=0.5)
    assert time.monotonic() - began < 0.9
    over.set()
    assert one.verdict == "timeout"


def test_a_server_without_tls_is_told(fake: FakeHub) -> None:
    assert visit(f"https://127.0.0.1:{fake.port}").verdict == "tls"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_nobody_signed_is_not_trusted(tmp_path: Path) -> None:
    pem = tmp_path / "own.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem)]
    subprocess.run([*made, "-out", f"{pem}.crt"], check=True, capture_output=True)
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(f"{pem}.crt", pem)
    with FakeHub() as fake:
        fake.add_repo(REPO, FILES)
        plain = fake.server.socket
        fake.server.socket = secure.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        one = visit(f"https://127.0.0.1:{fake.port}", token=SECRET, anywhere=True)
        assert not fake.log
    assert (one.verdict, why(one)) == ("tls", "hub.no_connection")


def test_offline_mode_asks_nobody(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    one = visit(fake.url)
    assert (one.verdict, why(one)) == ("offline", "hub.offline")
    assert not fake.log
    assert all_offline([one])


def test_what_is_no_address_is_told_without_its_password(fake: FakeHub) -> None:
    one, two = examine(REF, [f"https://me:{SECRET}@mirror.example", fake.url])
    said_in_full(one)
    assert (one.verdict, two.verdict) == ("bad_endpoint", "fast")
    assert SECRET not in repr(one)


def test_this_computer_is_known_to_be_offline_within_seconds(no_names: None) -> None:
    began = time.monotonic()
    visits = examine(REF, [*hub.ENDPOINTS, dead(), dead("localhost")])
    assert time.monotonic() - began < 5
    assert [one.verdict for one in visits] == ["dns", "dns", "refused", "refused"]
    assert all_offline(visits)
    assert ranked(visits) == []


def test_one_answer_is_enough_to_be_online(fake: FakeHub) -> None:
    fake.fault("@api", "status", status=404, times=None)
    assert not all_offline(examine(REF, [dead(), fake.url]))
    assert not all_offline([])


# Several at once


def test_endpoints_are_visited_at_once_and_told_in_their_order() -> None:
    with contextmanager_of(FakeHub() for _ in range(6)) as fakes:
        for fake in fakes:
            fake.fault("", "silent", times=None)
        began = time.monotonic()
        visits = examine(REF, [fake.url for fake in fakes] + [fakes[0].url + "/"], timeout=0.8)
        assert time.monotonic() - began < 1.5
        assert [one.endpoint for one in visits] == [fake.url for fake in fakes]


@contextmanager
def contextmanager_of(fakes: Iterator[FakeHub]) -> Iterator[list[FakeHub]]:
    held = [fake.start() for fake in fakes]
    yield held
    for fake in held:
        fake.stop()


def test_a_mirror_that_is_behind_is_used_last(
    fake: FakeHub, other: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_repo(REPO, FILES | {"new.json": b"[]"}, modified="2024-07-01T00:00:00.000Z")
    old, new = examine(REF, [other.url, fake.url])
    assert (old.verdict, new.verdict) == ("fast", "fast")
    assert (old.behind, new.behind) == (True, False)
    assert ranked([old, new]) == [fake.url, other.url]
    # what huggingface.co has is the newest, whatever the clocks say
    monkeypatch.setattr(doctor, "ENDPOINTS", (other.url,))
    told = examine(REF, [other.url, fake.url])
    assert [one.behind for one in told] == [False, True]


def test_nobody_is_called_behind_without_a_date(fake: FakeHub, other: FakeHub) -> None:
    fake.add_repo(REPO, FILES | {"new.json": b"[]"})
    assert not any(one.behind for one in examine(REF, [other.url, fake.url]))


def test_the_first_of_two_that_are_about_as_good_is_taken() -> None:
    def fast(name: str, speed: float, **more: Any) -> Visit:
        return Visit(name, "fast", "c", 200, speed, size=10**9, **more)

    assert ranked([fast("a", 5e6), fast("b", 6e6)]) == ["a", "b"]
    assert ranked([fast("a", 5e6), fast("b", 40e6)]) == ["b", "a"]
    assert ranked([fast("a", 5e6, behind=True), Visit("b", "slow", "c", 900, 1e4, size=10**9)]) == ["b", "a"]
    assert ranked([Visit("a", "gated"), Visit("b", "bounces", error=HubError("hub.bounced"))]) == []


def test_no_server_sees_the_token_but_the_one_it_is_for(
    fake: FakeHub, other: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    passwords = tmp_path / "netrc"
    passwords.write_text(f"machine 127.0.0.1 login x password {SECRET}\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(passwords))
    fake.tokens.add(SECRET)
    with FakeHub() as third:
        third.add_repo(REPO, FILES)
        third.fault("/resolve/", "bounce", times=None, to=other.url)
        monkeypatch.setattr(endpoints, "TRUSTED", (fake.url,))  # as if it were huggingface.co
        visits = examine(REF, [fake.url, third.url], token=SECRET)
        assert [one.usable for one in visits] == [True, True]
        for seen in [*fake.log, *other.log, *third.log]:
            home = seen.host == f"127.0.0.1:{fake.port}"
            assert (seen.headers.get("authorization") == f"Bearer {SECRET}") == home
            assert ("authorization" in seen.headers) == home
        assert {seen.host for seen in fake.log} == {f"127.0.0.1:{fake.port}", f"localhost:{fake.port}"}


def test_every_verdict_has_its_words() -> None:
    told = {key.rpartition(".")[2] for key in words.catalog("en") if key.startswith("doctor.verdict.")}
    named = set(doctor.__doc__.replace(",", " ").split()) if doctor.__doc__ else set()
    assert told <= named
    assert set(doctor.WORKING) | set(doctor.UNPLUGGED) | set(doctor._OTHER_NAMES.values()) <= told
    assert {f"doctor.say.{verdict}" for verdict in told} <= set(words.catalog("en"))
