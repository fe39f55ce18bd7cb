"""Jobs at platforms: one contract that every one keeps, against a server of its shape, faults included."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from lib import backends, estimate, handover, joblist, jobs, words, worker
from lib.backends import Remote
from lib.backends.remote import remember, remembered
from lib.backends.wire import PROBLEMS, Host, Wire
from lib.chat import Message
from lib.errors import AppError, BackendError
from lib.jobfolder import JobFolder
from lib.talk import Sampling
from lib.workspace import read_json
from tests.platforms import ROWS, SUFFIX, Platform
from tests.processes import until
from tests.test_cli import answer, run

KEY = "sk-marked-key-0123456789-marked"
PLACES = {name: place for name, place in backends.BACKENDS.items() if isinstance(place, Remote)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "tea \u8336"
    folder.mkdir()
    for name, rows in (("train", 12), ("validation", 3)):
        lines = [
            orjson.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"{name} question {n}"},
                        {"role": "assistant", "content": f"answer {n} \u8336"},
                    ]
                }
            )
            for n in range(rows)
        ]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTTUNE_LOOK_SECONDS", "0.03")


@pytest.fixture
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The loopback server that speaks as the place named by the test's parameter does."""
    name = getattr(request, "param", "openai")
    row = ROWS[name]
    shape = PLACES[name].profile.shape
    with Platform(shape, KEY, row.header, row.value) as there:
        yield there


def place_of(name: str, there: Platform) -> Remote:
    profile = PLACES[name].profile
    return type(PLACES[name])(profile, there.origin + ROWS[name].tail, silence=2.0)


def entered(name: str, there: Platform, data: Path, monkeypatch: pytest.MonkeyPatch) -> jobs.Job:
    """Put a job into the list with nobody to work it off, so that the test does it in its own process."""
    monkeypatch.setattr(jobs, "start_runner", lambda: None)
    place = place_of(name, there)
    model = {"kind": "platform"} | ROWS[name].model
    return place.sending("tea", data, model, {}, "Be kind.", lambda folder: handover.offer(folder, KEY))


def works(job: jobs.Job) -> dict[str, Any]:
    """Be the job's process; return its result."""
    worker.main(job.folder)
    handover.withdraw(job.folder)
    return job.folder.result() or {}


def sentence(result: dict[str, Any]) -> str:
    return words.explain("en", {"key": result["key"], "facts": result["facts"]})


each = pytest.mark.parametrize(("name", "platform"), [(name, name) for name in PLACES], indirect=["platform"])


@pytest.mark.parametrize(
    ("name", "model", "currency", "million", "minimum"),
    [
        ("nebius", "any", "USD", 0.4, None),
        ("dashscope_intl", "qwen3-14b", "USD", 1.6, None),
        ("dashscope_intl", "another", "USD", None, None),
        ("together", "any", "USD", None, 4),
        ("openai", "any", "", None, None),
    ],
)
def test_what_a_job_costs_follows_from_the_price_that_is_listed(
    name: str, model: str, currency: str, million: float | None, minimum: float | None, data: Path
) -> None:
    told = PLACES[name].cost(data, {"kind": "platform", "id": model}, {"epochs": 2})
    assert told.tokens == estimate.amount(data).tokens * 2
    assert (told.currency, told.minimum, told.asked) == (currency, minimum, False)
    assert bool(told.checked and told.source) == bool(currency)
    assert told.amount == (None if million is None else pytest.approx(told.tokens / 1e6 * million))


def test_every_platform_has_a_row_here_and_its_words() -> None:
    assert set(ROWS) == set(PLACES)
    for name, place in PLACES.items():
        assert all(words.has(f"place.{name}.{key}") for key in ("name", "what", "start"))
        assert place.profile.checked.year >= 2026
        assert place.profile.source.startswith("https://")
    assert all(words.has(f"error.platform.{problem}") for problem in PROBLEMS)


@each
def test_a_whole_job(name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.plan = ["queued", "odd", "running", "nameless", "nameless", "done"]
    job = entered(name, platform, data, monkeypatch)
    result = works(job)
    (run,) = platform.jobs.values()
    assert result["state"] == "done"
    assert result["remote_id"] == remembered(job.folder)["id"]
    assert result["tuned_model"]
    # exactly what the documents ask for, no more
    blank = orjson.dumps(run.body)
    for file, (told, content) in platform.files.items():
        which = "FILE" if told.startswith("train") else "VALIDATION"
        blank = blank.replace(f'"{file}"'.encode(), f'"{which}"'.encode())
        plain = (data / ("train.jsonl" if which == "FILE" else "validation.jsonl")).read_bytes()
        assert content == (b"\xef\xbb\xbf" if PLACES[name].profile.bom else b"") + plain
    suffix = remembered(job.folder)["suffix"]
    assert orjson.loads(blank.replace(suffix.encode(), SUFFIX.encode())) == ROWS[name].sent
    log = job.folder.log_tail() if (job.folder.path / "log.txt").exists() else ""
    assert KEY not in log
    assert job.folder.status()["phase"] == "finishing"


@each
def test_a_failed_job_says_why_in_the_platforms_words(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.plan = ["queued", "failed"]
    result = works(entered(name, platform, data, monkeypatch))
    assert (result["state"], result["key"]) == ("failed", "platform.job_failed")
    assert "line 7" in sentence(result)


@each
def test_a_job_that_is_stopped_is_cancelled_there(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.plan = ["queued", "running"]
    job = entered(name, platform, data, monkeypatch)
    worked = threading.Thread(target=works, args=(job,))
    worked.start()
    until(lambda: job.folder.status().get("phase") == "running")
    job.folder.want_stop()
    worked.join(20)
    assert (job.folder.result() or {})["state"] == "stopped"
    assert all(run.cancelled > 2 for run in platform.jobs.values())


@each
def test_a_job_whose_answer_was_lost_is_found_and_not_started_twice(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entered(name, platform, data, monkeypatch)
    jobs_path = PLACES[name].profile.jobs
    platform.fault("POST", jobs_path, how="after")
    assert works(job)["state"] == "done"
    assert len(platform.jobs) == 1
    assert platform.asked("POST", jobs_path) == 1


@each
def test_a_process_that_is_killed_goes_on_where_it_was(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each thing it writes down: the next one never does again what was done."""
    job = entered(name, platform, data, monkeypatch)
    path = job.folder.path / "remote.json"

    class KilledError(BaseException):
        pass

    def killed(folder: JobFolder, known: dict[str, Any]) -> None:
        remember(folder, known)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("lib.backends.follow.remember", killed)
        for _ in range(10):
            before = path.read_bytes() if path.exists() else b""
            with suppress(KilledError):
                worker.main(job.folder)
            assert path.read_bytes() != before
    works(job)
    assert (job.folder.result() or {})["state"] == "done"
    assert len(platform.jobs) == 1
    assert len(platform.files) == 2


@each
@pytest.mark.parametrize(
    ("status", "body", "key"),
    [
        (401, b'"Invalid token"', "bad_key"),
        (403, b'{"error":{"message":"no","code":"training_not_available"}}', "closed"),
        (403, b"", "forbidden"),
        (402, b'{"error":{"message":"Payment required"}}', "no_balance"),
        (429, b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}', "no_balance"),
        (400, b'{"error":{"message":"bad row","code":"invalid_training_file"}}', "file_refused"),
        (400, b'{"error":"a bare string"}', "refused"),
        (500, b'{"error":{"code":"400","message":"odd value"}}', "refused"),
        (302, b"", "odd_answer"),
        (200, b"<html>Log in to the hotel network</html>", "odd_answer"),
    ],
)
def test_each_refusal_has_its_sentence(
    name: str,
    platform: Platform,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    key: str,
) -> None:
    elsewhere = {"Location": "http://localhost:1/steal"}
    platform.fault("POST", PLACES[name].profile.jobs, status=status, body=body, headers=elsewhere)
    result = works(entered(name, platform, data, monkeypatch))
    assert result["key"] == f"platform.{key}"
    assert PLACES[name].profile.label in sentence(result)
    assert not platform.jobs
    if body.startswith(b"{"):
        assert result["facts"]["raw"] == body.decode()


def test_a_wrong_key_is_told_at_once_and_repeated_nowhere(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entered("openai", platform, data, monkeypatch)
    platform.key = "sk-another"
    result = works(job)
    assert result["key"] == "platform.bad_key"
    assert result["facts"]["said"] == "Incorrect API key provided: Bearer ***"
    assert KEY not in orjson.dumps(result).decode()


def test_zhipus_five_hundred_that_wraps_a_four_hundred(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = words.catalog("zh")  # any Chinese text would do: the balance's own words are in the profile
    assert said
    means = dict(PLACES["zhipu"].profile.says)
    text = next(word for word, meant in means.items() if meant == "no_balance")
    body = orjson.dumps({"error": {"code": "400", "message": f"{text} 1"}})
    with Platform("openai", KEY) as there:
        there.fault("POST", "/fine_tuning/jobs", status=500, body=body)
        result = works(entered("zhipu", there, data, monkeypatch))
    assert result["key"] == "platform.no_balance"
    assert text in sentence(result)


def test_only_what_is_safe_is_repeated(platform: Platform, tmp_path: Path) -> None:
    wire = place_of("openai", platform).wire(KEY)
    platform.fault("GET", "/models", how="cut", times=2)
    assert wire.get("/models")["data"]
    assert platform.asked("GET", "/models") == 3
    platform.fault("GET", "/models", status=503, times=1)
    assert wire.get("/models")["data"]
    for how in ({"status": 500}, {"how": "cut"}):
        before = platform.asked("POST", "/fine_tuning/jobs")
        platform.fault("POST", "/fine_tuning/jobs", times=1, **how)
        with pytest.raises(BackendError):
            wire.post("/fine_tuning/jobs", {})
        assert platform.asked("POST", "/fine_tuning/jobs") == before + 1
    platform.fault("POST", "/fine_tuning/jobs", status=429, headers={"Retry-After": "0"})
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"{}\n")
    told = wire.upload("/files", file, field="file", fields={"purpose": "fine-tune"})
    assert wire.post("/fine_tuning/jobs", {"training_file": told["id"]})["id"] == "ftjob-1"


def test_who_must_wait_long_is_told_how_long(platform: Platform) -> None:
    wire = place_of("openai", platform).wire(KEY)
    platform.fault("GET", "/models", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(BackendError) as error:
        wire.get("/models")
    assert error.value.key == "platform.rate_limit_until"
    assert "1 h" in words.explain("en", error.value)


@each
def test_trouble_while_looking_passes(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500, cut connections and 404 while it runs: it is told, and looked at again."""
    platform.plan = ["queued", "running", "running", "running", "running", "done"]
    job = entered(name, platform, data, monkeypatch)
    at = f"{PLACES[name].profile.jobs}/"
    platform.fault("GET", at, status=500, times=4, body=b'{"error":"oops"}')
    platform.fault("GET", at, how="cut", times=3)
    platform.fault("GET", at, status=404, times=1)
    assert works(job)["state"] == "done"
    assert "trouble" not in job.folder.status()


def test_a_silent_platform_is_looked_at_again(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entered("openai", platform, data, monkeypatch)
    platform.fault("GET", "/fine_tuning/jobs/", how="slow", wait=3, times=1)
    wire = place_of("openai", platform)
    monkeypatch.setitem(backends.BACKENDS, "openai", wire)  # as patient as two seconds
    assert works(job)["state"] == "done"


def test_a_key_that_is_revoked_is_asked_for_anew(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.plan = ["queued", "running"]
    job = entered("openai", platform, data, monkeypatch)
    worked = threading.Thread(target=works, args=(job,))
    worked.start()
    until(lambda: job.folder.status().get("phase") == "running")
    platform.key = "sk-second-key"
    until(lambda: job.folder.status().get("phase") == "no_key")
    assert job.folder.status()["trouble"]["key"] == "platform.bad_key"
    platform.plan = ["done"]
    handover.offer(job.folder, "sk-second-key")
    worked.join(20)
    assert (job.folder.result() or {})["state"] == "done"


def test_a_job_cancelled_in_the_console_says_so(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.plan = ["running"]
    job = entered("openai", platform, data, monkeypatch)
    worked = threading.Thread(target=works, args=(job,))
    worked.start()
    until(lambda: bool(platform.jobs))
    next(iter(platform.jobs.values())).cancelled = 1
    worked.join(20)
    assert (job.folder.result() or {})["key"] == "platform.cancelled_there"


def test_events_go_into_the_log_and_the_curves_once_each(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.plan = ["queued", "running", "running", "done"]
    job = entered("openai", platform, data, monkeypatch)
    works(job)
    rows = job.folder.metrics()
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert all(row["loss"] < row["eval_loss"] for row in rows)
    assert capsys.readouterr().out.count("Job created") == 1


def test_a_list_of_an_older_version_knows_what_is_set_by_hand() -> None:
    old = jobs.keep("console", {"model": {"kind": "platform", "id": "x"}}, backend="siliconflow")
    with joblist.opened(write=True) as db:
        db.execute("update job set lane = 'compute'")
        db.execute("pragma user_version = 2")
    assert jobs.get(old.id).by_hand
    assert jobs.set_state(old.id, "done").state == "done"


def test_a_file_that_breaks_the_platforms_rules_is_not_sent(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (data / "train.jsonl").open("ab") as file:
        file.write(b'{"messages": [{"role": "user", "content": "no answer"}]}\n')
    with pytest.raises(BackendError) as refused:
        entered("openai", platform, data, monkeypatch)
    assert refused.value.key == "platform.breaks_rules"
    assert refused.value.facts["line"] == 13
    assert platform.log == []
    assert jobs.listing() == []


@pytest.mark.parametrize(
    ("name", "model", "key"),
    [
        ("own_openai", {"id": "x"}, "no_address"),
        ("own_openai", {"id": "", "address": "https://x.example/v1"}, "no_base"),
        ("azure", {"id": "x", "resource": "a/b"}, "no_address"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_entered(
    name: str, model: dict[str, str], key: str, data: Path
) -> None:
    with pytest.raises(BackendError) as refused:
        PLACES[name].start("x", data, {"kind": "platform"} | model, {}, "")
    assert refused.value.key == f"platform.{key}"
    assert jobs.listing() == []


def test_an_address_is_put_together_from_what_the_visitor_says() -> None:
    azure = PLACES["azure"]
    assert azure.needs == "resource"
    told = azure.address_of({"kind": "platform", "id": "x", "resource": "mine"})
    assert told == "https://mine.openai.azure.com/openai/v1"
    assert PLACES["own_openai"].needs == "address"
    assert PLACES["nebius"].needs == ""


def test_a_key_goes_over_https_only() -> None:
    for base, key in (("http://example.com/v1", "not_https"), ("ftp", "no_address")):
        with pytest.raises(BackendError) as refused:
            Wire(Host("X", base), KEY)
        assert refused.value.key == f"platform.{key}"


@each
def test_base_and_tuned_model_answer(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entered(name, platform, data, monkeypatch)
    tuned, place = works(job)["tuned_model"], place_of(name, platform)
    asked = [Message("user", "Shall I travel?")]
    if not place.answers:
        with pytest.raises(AppError) as nobody:
            list(place.chat(job, "tuned", asked, key=KEY))
        assert nobody.value.key == "backend.no_chat"
        return
    base = "".join(place.chat(job, "base", asked, key=KEY))
    assert base == f"[{ROWS[name].model['id']}] The leaves say \u8336."
    if place.deploys:
        with pytest.raises(AppError) as refused:
            list(place.chat(job, "tuned", asked, key=KEY))
        assert refused.value.key == "platform.not_deployed"
        if not place.can_deploy:
            place.name_tuned(job, "mine")
            assert "".join(place.chat(job, "tuned", asked, key=KEY)).startswith("[mine]")
    else:
        assert "".join(place.chat(job, "tuned", asked, key=KEY)).startswith(f"[{tuned}]")


@each
def test_a_chat_is_told_how_to_pick_its_words_as_far_as_it_takes_it(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(name, platform)
    if not place.answers:
        pytest.skip("nobody to talk to there")
    job = entered(name, platform, data, monkeypatch)

    def told(sampling: Sampling) -> dict[str, Any]:
        list(place.chat(job, "base", [Message("user", "Shall I travel?")], key=KEY, sampling=sampling))
        body = orjson.loads(platform.log[-1][3])
        said = body["parameters"] if place.profile.shape == "dashscope" else body
        return {one: said[one] for one in ("temperature", "top_p", "max_tokens", "seed") if one in said}

    seed = {} if name == "zhipu" else {"seed": 7}
    free = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 300} | seed
    assert told(Sampling(0.7, 0.9, 300, 7)) == free
    assert told(Sampling(0.0, 0.9, 300, 7)) == {"temperature": 0.0, "max_tokens": 300}, "nothing is drawn"


@each
def test_a_model_that_must_be_deployed_is_and_is_ended_again(
    name: str, platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(name, platform)
    if not place.can_deploy:
        pytest.skip("answers as it is, or is deployed in its console")
    job = entered(name, platform, data, monkeypatch)
    works(job)
    first = place.deploy(job, KEY)
    assert first.state == "starting"
    until(lambda: getattr(place.deployment(job, KEY), "state", "") == "ready")
    asked = [Message("user", "Shall I travel?")]
    assert "".join(place.chat(job, "tuned", asked, key=KEY)).endswith("say \u8336.")
    assert len(platform.deployed) == 1
    place.undeploy(job, KEY)
    assert platform.deployed == {}
    assert place.deployment(job, KEY) is None


@each
def test_a_job_survives_the_app_and_its_key_is_nowhere(
    name: str,
    platform: Platform,
    data: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full run by real processes: the key is handed over, and then searched for in all that was written."""
    caplog.set_level("DEBUG")
    monkeypatch.setenv(f"{name.upper()}_BASE_URL", platform.origin + ROWS[name].tail)
    platform.plan = ["queued", *["running"] * 30, "done"]
    model = {"kind": "platform"} | ROWS[name].model
    place = PLACES[name]
    job = place.sending("tea", data, model, {}, "", lambda folder: handover.offer(folder, KEY))
    until(lambda: bool(platform.jobs), 60)
    handover.withdraw(job.folder)  # the app is gone
    arguments = _arguments_of_children(read_json(workspace / "runner" / "process.json")["pid"])
    done = jobs.wait(job.id)
    assert done.state == "done", done.folder.log_tail()
    assert not done.by_hand
    assert joblist.standing(done).state == "done"
    assert KEY not in caplog.text
    assert KEY not in arguments
    assert KEY not in " ".join(one[1] for one in platform.log)
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(written) > 5
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path


def _arguments_of_children(pid: int) -> str:
    runner = psutil.Process(pid)
    return str([one.cmdline() for one in [runner, *runner.children(recursive=True)]])


def test_a_job_without_a_key_waits_for_it(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = entered("openai", platform, data, monkeypatch)
    handover.withdraw(job.folder)
    thread = threading.Thread(target=works, args=(job,))
    thread.start()
    until(lambda: job.folder.status().get("phase") == "no_key")
    assert platform.log == []
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # or any other of the places that lib/keys.py looks in
    thread.join(20)
    assert (job.folder.result() or {})["state"] == "done"


def test_the_same_on_the_command_line(
    platform: Platform, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHIPU_BASE_URL", platform.origin + ROWS["zhipu"].tail)
    asked = ("send", "--place", "zhipu", "--data", data, "--model", "glm-4-flash", "--set", "epochs=2")
    assert "--yes" in run(*asked, code=2).stderr
    assert "bigmodel.cn" in run(*asked, "--yes", code=1).stderr  # there is no key yet: where to make one
    assert platform.log == []
    monkeypatch.setenv("ZHIPUAI_API_KEY", KEY)
    job = answer(*asked, "--yes", "--wait")
    assert job["state"] == "done"
    (sent,) = platform.jobs.values()
    assert sent.body["hyperparameters"]["n_epochs"] == 2
    told = answer("chat", "--job", job["id"], "Shall I travel?")
    assert told["answer"].endswith("say \u8336.")
    picks = ("--temperature", "0.8", "--top-p", "0.5", "--max-tokens", "40")
    run("chat", "--job", job["id"], *picks, "Shall I travel?")
    body = orjson.loads(platform.log[-1][3])
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.8, 0.5, 40)
    before = len(platform.log)
    refused = run("chat", "--job", job["id"], "--seed", "0", "Shall I travel?", code=2)
    assert refused.stderr == f"firsttune: {words.say('en', 'error.backend.no_seed', name=job['name'])}\n"
    assert len(platform.log) == before
    missing = run("send", "--place", "zhipu", "--data", data / "none", "--model", "x", code=1)
    assert not missing.stdout and str(data / "none") in missing.stderr
    assert run("send", "--place", "nowhere", "--data", data, "--model", "x", code=2).stderr
