"""Where the Hub is asked: huggingface.co, a mirror, an own one; and which of them may see the token."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants

from lib.errors import HubError

ENDPOINTS = ("https://huggingface.co", "https://hf-mirror.com")
# Where each site is asked. ModelScope's two are two sites of one owner; not all is on both.
SITES = {"hub": ENDPOINTS, "modelscope": ("https://modelscope.cn", "https://www.modelscope.ai")}
# The token goes nowhere else unless the visitor says so; a mirror is somebody else's computer.
TRUSTED = ENDPOINTS[:1]


def check_endpoint(text: str) -> str:
    """Return an endpoint as `scheme://host[:port][/path]`. Raises `HubError` `hub.bad_endpoint`."""
    trimmed = text.strip()
    try:
        url = urlsplit(trimmed if "://" in trimmed else f"https://{trimmed}")
        port = f":{url.port}" if url.port else ""
    except ValueError:
        url, port = urlsplit(""), ""
    named = url.hostname and re.fullmatch(r"[\w.-]+|[\da-f:.]+", url.hostname)
    if url.scheme not in ("http", "https") or not named or url.username or url.query or url.fragment:
        # what stands before an @ may be a password
        raise HubError("hub.bad_endpoint", endpoint=text.strip().rpartition("@")[2][:80])
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def endpoint_of(site: str, text: str = "") -> str:
    """Return an endpoint that speaks as `site` does: `text`, or the site's first where that is another's.

    Raises `HubError` `hub.bad_endpoint`.
    """
    endpoint = check_endpoint(text or SITES[site][0])
    others = [one for name, endpoints in SITES.items() if name != site for one in endpoints]
    return SITES[site][0] if endpoint in others else endpoint


def token_for(endpoint: str, token: str | None, *, anywhere: bool = False, site: str = "hub") -> str | None:
    """Return the token to send to `endpoint`: `token` for huggingface.co, None for every other.

    `anywhere`: the visitor has said that this endpoint may see it too. Even then it is for requests to the
    endpoint itself; where a redirect leads to another origin, it stays behind. For a `site` that is not the
    Hub there is none: the token is one of Hugging Face.

    Raises `HubError` `hub.bad_token` when it holds what no token does, such as a blank.
    """
    token = (token or "").strip()
    if not token or site != "hub" or not (anywhere or endpoint in TRUSTED):
        return None
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise HubError("hub.bad_token", endpoint=endpoint)
    return token


def origin(address: str) -> str:
    """Return `scheme://host:port`, the part that decides whether two addresses are one server's.

    Raises `ValueError` for what is no address.
    """
    url = urlsplit(address)
    return f"{url.scheme}://{url.hostname}:{url.port or {'https': 443}.get(url.scheme, 80)}"


def headers_for(token: str | None) -> dict[str, str]:
    """Return the headers of every request: who asks, and the token where it may be sent."""
    agent = {"User-Agent": f"firsttune hf_hub/{huggingface_hub.__version__}"}
    return agent | {"Authorization": f"Bearer {token}"} if token else agent


def token_from_environment() -> str | None:
    """Return the token in `$HF_TOKEN`, else the one `hf auth login` stored, else None. Asks no network."""
    given = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if given and given.strip():
        return given.strip()
    try:
        return Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
