"""Load a model folder: weights, tokenizer, chat template. Nothing is fetched, no code in it is run.

Torch is imported with the weights only: a tokenizer alone is there in a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import practice
from lib.errors import ModelError
from lib.workspace import read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")

# For a model that came without a chat template (a plain base model). Plain words rather than special tokens,
# since such a model has no trained tokens for roles; the end token closes every answer.
PLAIN_TEMPLATE = """\
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{ 'Assistant:' }}
{%- generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{{ '\\n\\n' }}
{%- else %}{{ message['content'] + '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}
"""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a job's base model lies. `name` is what a saved adapter will call it."""

    folder: Path
    name: str
    practice: bool


def where(asked: dict[str, Any], given: Path | None) -> Where:
    """Find the base model that `job.json` asks for: `{"kind": "practice", "path" or "hub", "id"}`.

    `given` is the folder where a Hub model's files are.
    """
    model = asked.get("model") or {"kind": "practice"}
    kind, name = model.get("kind"), str(model.get("id", ""))
    if kind == "practice":
        return Where(practice.folder(), str(practice.folder()), True)
    folder = given.resolve() if given else Path(name)
    if kind == "hub" and not given:
        raise ModelError("trainer.not_fetched", model=name)
    if not folder.is_absolute() or not folder.is_dir():
        raise ModelError("trainer.no_folder", model=str(folder))
    return Where(folder, name if kind == "hub" else str(folder), False)


def load_tokenizer(folder: Path, adapter: Path | None = None) -> tuple[Any, bool]:
    """Return the tokenizer and whether it brought a chat template; without one it gets `PLAIN_TEMPLATE`.

    An `adapter` folder's own tokenizer, saved when it was trained, goes before the base model's.
    """
    from transformers import AutoTokenizer

    _look(folder)
    if adapter and (adapter / "tokenizer_config.json").exists():
        folder = adapter
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError("trainer.bad_tokenizer", folder=str(folder), message=_first_line(error)) from error
    if not tokenizer.is_fast:
        raise ModelError("trainer.bad_tokenizer", folder=str(folder), message="no fast tokenizer")
    if tokenizer.eos_token is None:
        raise ModelError("trainer.no_end_token", folder=str(folder))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    own = bool(tokenizer.chat_template)
    if not own:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer, own


def load_model(folder: Path, dtype: torch.dtype, *, quantised: str = "no") -> Any:
    """Return the model with all its weights, or raise `ModelError` saying what is wrong with the folder.

    `quantised`: "8bit" or "4bit" to squeeze the weights (CUDA and bitsandbytes only); they come to the GPU.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    _look(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        kind = str((read_json(folder / "config.json") or {}).get("model_type", "?"))
        raise ModelError("trainer.unknown_kind", folder=str(folder), kind=kind) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ModelError("trainer.not_causal", folder=str(folder), kind=config.model_type)
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        raise ModelError("trainer.no_weights", folder=str(folder))
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_squeezed(quantised, dtype),
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError("trainer.bad_weights", folder=str(folder), message=_first_line(error)) from error
    missing = sorted(loading["missing_keys"]) + [str(row) for row in loading.get("mismatched_keys", ())]
    if missing:
        raise ModelError("trainer.bad_weights", folder=str(folder), message=f"missing: {missing[0]}")
    return model


def can_quantise() -> str:
    """Return "" where weights can be squeezed, else what is missing: "cuda" or "bitsandbytes"."""
    import torch

    if not torch.cuda.is_available():
        return "cuda"
    return "" if find_spec("bitsandbytes") else "bitsandbytes"


def longest(model: Any) -> int:
    """Return how many tokens a model can read at most; a very large number where it does not say."""
    return getattr(model.config, "max_position_embeddings", None) or 1 << 30


def _look(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError("trainer.no_folder", model=str(folder))
    if not isinstance(read_json(folder / "config.json"), dict):
        raise ModelError("trainer.no_config", folder=str(folder))


def _squeezed(quantised: str, dtype: torch.dtype) -> dict[str, Any]:
    if quantised == "no":
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    # as QLoRA does it: 4-bit normal floats, their scales squeezed too. Source: arXiv 2305.14314, 2026-11
    four = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
    config = BitsAndBytesConfig(**(four if quantised == "4bit" else {"load_in_8bit": True}))
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
