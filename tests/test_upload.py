"""Taking a folder to the Hub: privately, with the token at the right address, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib import hub
from lib.errors import HubError
from lib.hub.upload import upload
from tests.fakeupload import FakeUpload, Repo

# huggingface_hub 2.4 sends large files in a way that its own HTTP library has given up
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
TOKEN = "hf_writes"
FILES = {
    "README.md": b"---\nlibrary_name: peft\n---\n# tea\n",
    "adapter/adapter_model.safetensors": bytes(range(256)) * 500,
    "adapter/adapter_config.json": b"{}",
    "merged/model.safetensors": b"large",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "home"


def test_a_folder_arrives_whole_in_a_private_repository(folder: Path) -> None:
    with FakeUpload() as fake:
        page = upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True, leave_out=["merged/*"])
        assert page == f"{fake.url}/me/tea"
        repo = fake.repos["me/tea"]
        assert repo.private
        assert repo.files == {name: data for name, data in FILES.items() if not name.startswith("merged")}
        assert repo.commits == 1
        upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True)
        assert repo.files == FILES


def test_a_file_that_is_there_is_not_sent_again(folder: Path) -> None:
    with FakeUpload() as fake:
        fake.repos["me/tea"] = Repo(private=True)
        for _ in range(2):
            upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True)
        assert len([seen for seen in fake.log if seen.method == "PUT"]) == 2  # the two large ones, once each


def test_a_very_large_file_arrives_in_parts_and_its_bytes_are_counted_once(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with FakeUpload() as fake:
        fake.part_size = 50_000
        upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True, progress=lambda *one: told.append(one))
        assert fake.repos["me/tea"].files == FILES
        assert [len(parts) for parts in fake.parts.values()] == [3]
    total = sum(map(len, FILES.values()))
    assert list(dict.fromkeys(phase for phase, _, _ in told)) == ["hashing", "sending", "committing"]
    assert all(0 <= done <= total == of for _, done, of in told)
    assert told[-1] == ("committing", total, total)


def test_what_is_stopped_on_the_way_changes_nothing(folder: Path) -> None:
    phases: list[str] = []
    with FakeUpload() as fake:
        for last in ("hashing", "sending"):
            with pytest.raises(HubError) as stopped:
                upload(
                    folder,
                    "me/tea",
                    fake.url,
                    token=TOKEN,
                    anywhere=True,
                    progress=lambda phase, _done, _total: phases.append(phase),
                    stop=lambda last=last: phases[-1:] == [last],  # type: ignore[misc]
                )
            assert stopped.value.key == "hub.upload_stopped"
            assert fake.repos["me/tea"].commits == 0
        assert fake.stored == {}


def test_the_token_goes_to_the_endpoint_and_not_to_the_storage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with FakeUpload() as fake:
        upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True)
        stored = [seen for seen in fake.log if seen.path.startswith("/cdn/")]
        asked = [seen for seen in fake.log if not seen.path.startswith("/cdn/")]
    assert stored
    assert all(seen.host.startswith("localhost") and not seen.authorization for seen in stored)
    assert {seen.authorization for seen in asked} == {f"Bearer {TOKEN}"}


def test_without_a_yes_no_token_goes_to_a_mirror(folder: Path) -> None:
    with FakeUpload() as fake:
        for token in (TOKEN, None):
            with pytest.raises(HubError) as refused:
                upload(folder, "me/tea", fake.url, token=token)
            assert refused.value.key == "hub.no_token"
        assert fake.log == []


def test_a_public_repository_is_not_written_to_by_accident(folder: Path) -> None:
    with FakeUpload() as fake:
        fake.repos["me/tea"] = Repo(private=False)
        with pytest.raises(HubError) as refused:
            upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True)
        assert refused.value.key == "hub.is_public"
        assert fake.repos["me/tea"].commits == 0
        upload(folder, "me/tea", fake.url, token=TOKEN, anywhere=True, private=False)
        assert fake.repos["me/tea"].commits == 1


@pytest.mark.parametrize(
    ("repo", "token", "broken", "key"),
    [
        ("me/tea", "hf_reads", "", "hub.may_not_write"),
        ("me/tea", TOKEN, "/api/repos/create", "hub.server_error"),
        ("not a name!", TOKEN, "", "hub.bad_reference"),
    ],
)
def test_what_goes_wrong_is_a_sentence(folder: Path, repo: str, token: str, broken: str, key: str) -> None:
    with FakeUpload() as fake:
        fake.broken = [broken]
        with pytest.raises(HubError) as refused:
            upload(folder, repo, fake.url, token=token, anywhere=True)
        assert refused.value.key == key
        assert token not in str(refused.value)


def test_nobody_there_is_said() -> None:
    with FakeUpload() as fake:
        url = fake.url
    with pytest.raises(HubError) as refused:
        upload(Path(), "me/tea", url, token=TOKEN, anywhere=True)
    assert refused.value.key == "hub.no_connection"
    assert hub.ENDPOINTS[0] != url
