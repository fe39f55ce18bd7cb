"""Put a folder into a model repository of one's own: made if missing, private unless said otherwise.

All goes in one commit, so a repository is never half changed; large files that had arrived before a break
are not sent again. Through huggingface_hub, but by plain HTTPS: its other way, Xet, hands a key of the
visitor's to further servers, and those are what cannot be reached from where mirrors are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lib.errors import HubError
from lib.hub.endpoint import ENDPOINTS, check_endpoint, headers_for, token_for
from lib.hub.failures import Asked
from lib.hub.reference import parse

PATIENCE = 60.0  # seconds; what is said of an endpoint that did not answer


def upload(
    folder: Path,
    repo: str,
    endpoint: str = ENDPOINTS[0],
    *,
    token: str | None,
    anywhere: bool = False,
    private: bool = True,
    leave_out: Sequence[str] = (),
) -> str:
    """Upload all of `folder` but what `leave_out` (shell patterns) names; return the address of its page.

    The token goes to huggingface.co alone, unless `anywhere`. Raises `HubError`: `hub.no_token`,
    `hub.may_not_write`, `hub.is_public` where the repository is there already and everyone can see it though
    `private` is wished, and what lib/hub/failures.py lists.
    """
    ref, endpoint = parse(repo, kind="model", sites=("hub",)), check_endpoint(endpoint)
    sent = token_for(endpoint, token, anywhere=anywhere)
    if sent is None:
        raise HubError("hub.no_token", endpoint=endpoint, repo=ref.repo)
    asked = Asked(ref, endpoint, PATIENCE, token_sent=True)
    api = HfApi(endpoint=endpoint, token=sent, headers=headers_for(sent))
    with _explained(asked), _plainly():
        made = api.create_repo(ref.repo, private=private, exist_ok=True).repo_id
        if private and not api.model_info(made).private:
            raise HubError("hub.is_public", repo=made, endpoint=endpoint)
        api.upload_folder(
            repo_id=made,
            folder_path=folder,
            commit_message="Upload a model tuned with FirstTune",
            ignore_patterns=list(leave_out),
        )
    return f"{endpoint}/{made}"


@contextmanager
def _explained(asked: Asked) -> Iterator[None]:
    """Turn what goes wrong into a `HubError`."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        found = asked.broken(error) or (asked.broken(error.__cause__) if error.__cause__ else None)
        if found is None:
            raise
        if found.key in ("hub.bad_token", "hub.forbidden", "hub.not_found", "hub.gated"):
            found = asked.error("may_not_write")
        raise found from error


@contextmanager
def _plainly() -> Iterator[None]:
    """Have huggingface_hub use plain HTTPS and draw nothing."""
    xet, drawn = constants.HF_HUB_DISABLE_XET, not are_progress_bars_disabled()
    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = xet
        if drawn:
            enable_progress_bars()
