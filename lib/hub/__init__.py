"""The Hugging Face Hub, its mirrors, ModelScope: what to fetch, what is there, and getting it here whole.

    parse                      what a person pasted -> Ref
    examine, ranked            which endpoint works from here, and which to go on with
    list_files                 Ref + endpoint -> Listing: commit, licence, gate, files with sizes and hashes
    card                       what the repository says of itself first, as plain text
    look.look                  the first rows of a file, before it is here; imported from `lib.hub.look`, for
                               it brings the readers of data files along, which take a while to load
    preflight                  all that keeps files from lying in a folder, before anything is fetched
    select, suggest, is_data   which of the files to fetch
    download                   Listing -> verified files in a folder; resumes at the byte, survives a bad link
    finished                   a folder -> the Listing of the download that was finished there
    upload.upload              a folder -> a model repository of one's own; imported from `lib.hub.upload`

Metadata goes through huggingface_hub, for its addresses, types and error codes; bytes we stream ourselves
from `/resolve/`, because the client of 2026 can't resume a file. Every call names its endpoint and ends
within its timeout; a token goes to huggingface.co and nowhere else unless the visitor says so (`anywhere`).

What goes wrong is a `HubError`, whose keys are listed in `lib/hub/failures.py`, or a `WorkspaceError`.
"""

from lib.hub.card import card
from lib.hub.doctor import Visit, all_offline, examine, ranked
from lib.hub.download import download
from lib.hub.endpoint import ENDPOINTS, SITES, check_endpoint, token_from_environment
from lib.hub.listing import Listing, RemoteFile, is_data, list_files, select, suggest
from lib.hub.manifest import finished
from lib.hub.names import WARNINGS, preflight
from lib.hub.progress import FileProgress, Progress, Told
from lib.hub.reference import KINDS, Ref, parse

__all__ = [
    "ENDPOINTS",
    "KINDS",
    "SITES",
    "WARNINGS",
    "FileProgress",
    "Listing",
    "Progress",
    "Ref",
    "RemoteFile",
    "Told",
    "Visit",
    "all_offline",
    "card",
    "check_endpoint",
    "download",
    "examine",
    "finished",
    "is_data",
    "list_files",
    "parse",
    "preflight",
    "ranked",
    "select",
    "suggest",
    "token_from_environment",
]
