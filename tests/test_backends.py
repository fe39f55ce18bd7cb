"""The places to train: one contract for all, and SiliconFlow's chat against a server of its shape."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from lib import backends, jobs, params, words
from lib.backends import BACKENDS, Backend, siliconflow
from lib.backends.siliconflow import BASE_URL, MODELS, RANGES, TUNED, SiliconFlow
from lib.chat import Message
from lib.errors import AppError, BackendError, UsageError
from lib.talk import Sampling
from lib.trainer import packages

KEY = "sk-marked-key-0123456789"
TUNED_NAME = "ft:LoRA/Qwen/Qwen2.5-7B-Instruct:acc0unt:tea-leaves:abcdefghij0123456789"
MODEL = {"kind": "platform", "id": MODELS[0]}


@dataclass
class Platform:
    """A server of SiliconFlow's shape on loopback: `answer` says what the next request gets."""

    url: str = ""
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def platform() -> Iterator[Platform]:
    here = Platform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            form = headers["content-type"].startswith("multipart/")
            here.seen.append((self.path, headers, body if form else orjson.loads(body)))
            here.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    here.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield here
    here.over.set()
    server.shutdown()
    server.server_close()


def says(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def event(text: str | None, finish: str | None = None) -> bytes:
    value = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + orjson.dumps(value) + b"\n\n"


def streams(
    *parts: bytes, chunked: bool = True, then: Callable[[], object] | None = None
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer in pieces; without `then` the stream is ended as it should be, else cut after calling it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            handler.wfile.flush()
        if then:
            then()
            handler.close_connection = True
        elif chunked:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.close_connection = True

    return answer


def silent(platform: Platform) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        platform.over.wait(5)
        handler.close_connection = True

    return answer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A conversion's folder with three rows, the last of which breaks SiliconFlow's rules."""
    folder = tmp_path / "tea data"
    folder.mkdir()
    rows = [["user", "assistant"], ["system", "user", "assistant"], ["user", "user", "assistant"]]
    for name, some in (("train", rows), ("validation", rows[:1])):
        lines = [
            orjson.dumps({"messages": [{"role": role, "content": f"{role} {n}"} for role in roles]})
            for n, roles in enumerate(some)
        ]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture
def silicon(platform: Platform) -> SiliconFlow:
    return SiliconFlow(platform.url, silence=0.3)


@pytest.fixture
def kept(silicon: SiliconFlow, data: Path) -> jobs.Job:
    return silicon.start("tea leaves", data, MODEL, params.defaults(RANGES), "Be kind.")


def asks(silicon: SiliconFlow, job: jobs.Job, which: str = "base", key: str = KEY) -> Iterator[str]:
    messages = [Message("system", "Be kind."), Message("user", "Shall I travel?")]
    return silicon.chat(job, which, messages, key=key, sampling=Sampling(0.5, 0.9, 300, 7))


def refused(act: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as error:
        act()
    return error.value


@pytest.mark.parametrize("place", BACKENDS.values(), ids=BACKENDS)
def test_every_place_keeps_the_contract(place: Backend, data: Path, tmp_path: Path) -> None:
    assert BACKENDS[place.name] is place
    assert set(place.ranges) <= set(params.PARAMS)
    for name in place.ranges:
        assert params.stops(name, place.ranges), name
    assert params.checked(params.defaults(place.ranges), place.ranges)
    assert all(words.has(f"place.{place.name}.{key}") for key in ("name", "what", "start"))
    assert all(words.has(key) for key in place.missing())
    assert not place.manual or place.models()
    assert bool(place.key_variable) == (place.name != "local")
    report = place.check(data)
    assert report.rows == 3
    found = {(finding.line, finding.rule) for finding in report.findings}
    assert found - {(0, "too_few_rows")} == {(3, "not_alternating")}
    model = {"kind": "practice", "id": "practice"} if place.name == "local" else MODEL
    settings = params.defaults(place.ranges)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "train.jsonl").touch()
    for folder in (empty, tmp_path / "nowhere"):
        for act in (partial(place.start, "x", folder, model, settings, ""), partial(place.check, folder)):
            assert refused(act).key == "backend.no_data"
    wild = settings | {"learning_rate": 7.0}
    assert isinstance(refused(lambda: place.start("x", data, model, wild, "")), UsageError)
    assert jobs.listing() == []


def test_this_computer_says_what_it_cannot_train(data: Path, tmp_path: Path) -> None:
    local, settings = BACKENDS["local"], params.defaults(BACKENDS["local"].ranges)

    def start(kind: str, name: str) -> str:
        return refused(lambda: local.start("x", data, {"kind": kind, "id": name}, settings, "")).key

    assert start("path", str(tmp_path)) == "backend.local.no_model"
    assert start("platform", "Qwen/Qwen2.5-7B-Instruct") == "backend.local.unknown_model"
    if packages.missing():
        assert local.missing() == ["error.backend.local.missing"]
        assert start("practice", "practice") == "backend.local.missing"
    else:
        assert local.missing() == []
    assert isinstance(
        refused(lambda: next(local.chat(jobs.keep("x", {}, backend="siliconflow"), "base", [], key=""))),
        BackendError,
    )


def test_parameters_are_counted_from_the_weights_headers(tmp_path: Path) -> None:
    def weights(name: str, **shapes: list[int]) -> None:
        tensors = {
            one: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for one, shape in shapes.items()
        }
        header = orjson.dumps(tensors | {"__metadata__": {"format": "pt"}})
        (tmp_path / name).write_bytes(struct.pack("<Q", len(header)) + header)

    model = {"kind": "path", "id": str(tmp_path)}
    (tmp_path / "config.json").write_text("{}")
    assert backends.local.parameters(model) is None
    weights("model-1.safetensors", a=[10, 20], b=[3])
    weights("model-2.safetensors", c=[1000])
    assert backends.local.parameters(model) == 1203
    assert backends.local.parameters({"kind": "practice", "id": "practice"}) == 1_165_312
    assert backends.local.parameters({"kind": "hub", "id": "org/unfetched"}) is None
    for junk in (
        b"",
        b"version https://git-lfs",
        struct.pack("<Q", 5) + b"[1,2]",
        struct.pack("<Q", 1 << 60),
    ):
        (tmp_path / "model-2.safetensors").write_bytes(junk)
        assert backends.local.parameters(model) is None


def test_a_job_is_kept_with_the_values_to_enter_in_the_order_of_the_form(
    silicon: SiliconFlow, kept: jobs.Job, data: Path
) -> None:
    assert (kept.state, kept.backend, kept.kind) == ("queued", "siliconflow", "train")
    home = kept.folder.path / "data"
    settings = params.defaults(RANGES)
    fields = silicon.console_values(kept)
    assert fields[:4] == [
        ("name_field", "tea leaves"),
        ("model", "Qwen/Qwen2.5-7B-Instruct"),
        ("file", str(home / "train.jsonl")),
        ("validation_file", str(home / "validation.jsonl")),
    ]
    assert [name for name, _ in fields[4:]] == list(RANGES)
    assert dict(fields)["learning_rate"] == "0.0002"
    assert dict(fields)["batch_size"] == "8"
    assert all(words.has(f"place.siliconflow.{name}") for name, _ in fields)
    assert (home / "train.jsonl").read_bytes() == (data / "train.jsonl").read_bytes()
    (data / "validation.jsonl").write_bytes(b"")
    bare = silicon.start("none held back", data, MODEL, settings, "")
    assert "validation_file" not in dict(silicon.console_values(bare))


def test_only_its_models_can_be_tuned_there(silicon: SiliconFlow, data: Path) -> None:
    other = {"kind": "platform", "id": "deepseek-ai/DeepSeek-V3"}
    error = refused(lambda: silicon.start("x", data, other, params.defaults(RANGES), ""))
    assert error.key == "backend.siliconflow.unknown_model"


@pytest.mark.parametrize(
    "name", [TUNED_NAME, f"{TUNED_NAME}-ckpt_step_120", TUNED_NAME.replace("acc0unt", "\u8336")]
)
def test_the_tuned_models_name_is_kept_whatever_the_state(
    silicon: SiliconFlow, kept: jobs.Job, name: str
) -> None:
    silicon.name_tuned(kept, name)
    assert jobs.get(kept.id).state == "queued"
    jobs.set_state(kept.id, "running")
    assert (jobs.get(kept.id).folder.result() or {})["tuned_model"] == name
    assert jobs.get(kept.id).state == "running"
    silicon.name_tuned(kept, "")
    assert kept.folder.result() is None


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-7B-Instruct", "ft:", "ft:a:b", f"{TUNED_NAME} ", f"x{TUNED_NAME}", "ft:a:b:c:d"]
)
def test_what_is_no_name_of_a_tuned_model_is_refused(silicon: SiliconFlow, kept: jobs.Job, name: str) -> None:
    assert not TUNED.fullmatch(name)
    assert refused(lambda: silicon.name_tuned(kept, name)).key == "backend.siliconflow.bad_name"
    assert kept.folder.result() is None


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_arrives_piece_by_piece(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job, chunked: bool
) -> None:
    seen = threading.Event()
    first, rest = event("The leaves \u8336"), event(" show", "stop")
    cut = len(first) // 2  # a piece may end anywhere, in the middle of a character too

    def answer(handler: BaseHTTPRequestHandler) -> None:
        parts = [b": keep-alive\n\n", event(None), first[:cut], first[cut:]]
        streams(*parts, chunked=chunked, then=lambda: seen.wait(5))(handler)
        end = rest + b"data: [DONE]\n\n"
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(end), end) if chunked else end)

    platform.answer = answer
    silicon.silence = 5
    silicon.name_tuned(kept, TUNED_NAME)
    pieces = asks(silicon, kept, "tuned")
    assert next(pieces) == "The leaves \u8336"  # the rest has not been sent yet
    seen.set()
    assert list(pieces) == [" show"]
    path, headers, body = platform.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": TUNED_NAME,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Shall I travel?"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 300,
        "stream": True,
    }, "of a seed its documents say nothing"


def test_the_base_model_is_asked_by_its_name(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job
) -> None:
    platform.answer = streams(event("yes", "stop"))  # ended without [DONE], as some gateways do
    assert list(asks(silicon, kept)) == ["yes"]
    assert platform.seen[0][2]["model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert refused(lambda: asks(silicon, kept, "tuned")).key == "backend.siliconflow.no_name"


# Source of the shapes: docs.siliconflow.cn/faqs/error-code, 2026-11-22.
@pytest.mark.parametrize(
    ("status", "body", "key", "said"),
    [
        (
            400,
            b'{"code":20012,"message":"Model does not exist.","data":null}',
            "no_model",
            "Model does not exist.",
        ),
        (400, b'{"code":20015,"message":"length exceeds","data":null}', "refused", "length exceeds"),
        (400, b"Bad Request", "refused", "Bad Request"),
        (401, b'"Invalid token"', "bad_key", "Invalid token"),
        (401, f'"Invalid token {KEY}"'.encode(), "bad_key", "Invalid token ***"),
        (
            403,
            b'{"code":30001,"message":"balance is insufficient","data":null}',
            "no_balance",
            "balance is insufficient",
        ),
        (404, b'"404 page not found"', "not_found", "404 page not found"),
        (404, b"404 page not found", "not_found", "404 page not found"),
        (
            429,
            b'{"message":"Request was rejected due to rate limiting. TPM limit reached."}',
            "rate_limit",
            "TPM",
        ),
        (503, b'{"code":50505,"message":"Model service overloaded","data":null}', "busy", "overloaded"),
        (504, b"", "busy", ""),
        (500, b'{"error":{"message":"inner","code":"x"}}', "failed", "inner"),
        (500, b"\xff\xfe" * 9000, "failed", ""),
        (302, b"", "odd_answer", ""),
        (200, b"<html>Log in to the hotel network</html>", "odd_answer", ""),
        (200, b"data: {not json\n\n", "odd_answer", "{not json"),
        (200, b'data: {"code":50505,"message":"overloaded"}\n\n', "busy", "overloaded"),
    ],
)
def test_each_refusal_has_its_sentence(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job, status: int, body: bytes, key: str, said: str
) -> None:
    platform.answer = says(status, body, Location=f"{platform.url}/elsewhere")
    error = refused(lambda: list(asks(silicon, kept)))
    assert error.key == f"platform.{key}"
    assert said in str(error.facts["said"])
    assert KEY not in str(error)
    assert words.has(f"error.{error.key}")
    assert len(platform.seen) == 1  # no redirect was followed, nothing repeated


def test_a_cut_a_silent_and_an_absent_platform_are_told_apart(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job
) -> None:
    for chunked in (True, False):
        platform.answer = streams(event("The"), chunked=chunked, then=lambda: None)
        pieces = asks(silicon, kept)
        assert next(pieces) == "The"
        assert refused(lambda pieces=pieces: next(pieces)).key == "platform.cut"  # type: ignore[misc]
    platform.answer = streams(event("The"), then=lambda: platform.over.wait(5))
    pieces = asks(silicon, kept)
    assert next(pieces) == "The"
    assert refused(lambda: next(pieces)).key == "platform.timeout"
    platform.answer = silent(platform)
    begun = time.monotonic()
    assert refused(lambda: list(asks(silicon, kept))).key == "platform.timeout"
    assert time.monotonic() - begun < 3
    nobody = SiliconFlow("http://127.0.0.1:9/v1")
    assert refused(lambda: list(asks(nobody, kept))).key == "platform.unreachable"


@pytest.mark.parametrize("key", ["", "  ", "\u5bc6\u94a5", "two words", "line\nbreak: x"])
def test_what_can_be_no_key_is_not_sent(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job, key: str
) -> None:
    problem = "bad_key" if key.strip() else "no_key"
    assert refused(lambda: list(asks(silicon, kept, key=key))).key == f"platform.{problem}"
    assert platform.seen == []


def test_the_key_is_kept_nowhere(
    platform: Platform,
    silicon: SiliconFlow,
    kept: jobs.Job,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    caplog.set_level("DEBUG")
    platform.answer = streams(event("yes", "stop"), b"data: [DONE]\n\n")
    assert "".join(asks(silicon, kept, key=f" {KEY}\n")) == "yes"
    assert platform.seen[0][1]["authorization"] == f"Bearer {KEY}"
    platform.answer = says(401, b'"Invalid token"')
    refused(lambda: list(asks(silicon, kept)))
    assert KEY not in caplog.text
    assert KEY not in repr(silicon.__dict__)
    for path in workspace.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_files_are_sent_by_the_undocumented_call_once_each(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job
) -> None:
    replies = iter(
        [
            says(200, b'{"code":20000,"message":"Ok","status":true,"data":{"id":"file-a","purpose":"x"}}'),
            says(400, b'{"code":20015,"message":"purpose must be batch","data":null}'),
            says(200, b'{"code":20000,"message":"Ok","status":true,"data":{"id":"file-b","purpose":"x"}}'),
        ]
    )
    platform.answer = lambda handler: next(replies)(handler)
    error = refused(lambda: silicon.upload(kept, KEY))
    assert (error.key, error.facts["said"]) == ("platform.refused", "purpose must be batch")
    assert siliconflow.sent(kept) == {"train": "file-a"}
    assert silicon.upload(kept, KEY) == {"train": "file-a", "validation": "file-b"}
    assert [path for path, _, _ in platform.seen] == ["/v1/files"] * 3
    for _, headers, body in platform.seen:
        assert headers["authorization"] == f"Bearer {KEY}"
        assert b'name="purpose"\r\n\r\nfine-tune' in body


def test_closing_the_iterator_ends_the_connection(
    platform: Platform, silicon: SiliconFlow, kept: jobs.Job
) -> None:
    gone = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        streams(event("The"), then=lambda: None)(handler)
        handler.connection.settimeout(5)
        try:
            if handler.connection.recv(1) == b"":
                gone.set()
        except OSError:
            gone.set()

    platform.answer = answer
    silicon.silence = 5
    pieces = asks(silicon, kept)
    assert next(pieces) == "The"
    assert not gone.is_set()
    pieces.close()  # type: ignore[attr-defined]
    assert gone.wait(5)


def test_another_address_can_be_set_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SiliconFlow().base_url == BASE_URL
    monkeypatch.setenv("SILICONFLOW_BASE_URL", "http://127.0.0.1:1/v1/")
    assert SiliconFlow().base_url == "http://127.0.0.1:1/v1"
