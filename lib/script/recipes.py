"""The same settings for other trainers: JSON, a TRL script, LLaMA-Factory, ms-swift and Axolotl.

What a trainer has no word for is said in a comment rather than left out in silence. To add a trainer: a
function here, its row in RECIPES, its golden file in tests/data/recipes.

Source, read 2026-12: TRL 1.16's SFTConfig; hiyouga/LLaMA-Factory examples/train_lora/qwen3_lora_sft.yaml;
modelscope/ms-swift docs/source_en/Instruction/Command-line-parameters.md (4.x: `tuner_type`, before that
`train_type`); axolotl-ai-cloud/axolotl src/axolotl/utils/schemas.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from lib import params
from lib.params import Settings
from lib.trainer.settings import Settings as Run
from lib.trainer.settings import read

# LLaMA-Factory's names of chat templates, by how a model's name begins. Source: its src/llamafactory/data/
# template.py, read 2026-12; of a model not among them its README's table has the name.
TEMPLATES = {
    "qwen3": "qwen3_nothink",
    "qwen": "qwen",
    "llama-3": "llama3",
    "gemma-3": "gemma3",
    "gemma": "gemma",
}


@dataclass(frozen=True, slots=True)
class Job:
    """What to write down. `model`: its id or folder; `validation`: rows are kept back."""

    model: str
    data: str
    run: Run
    validation: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """One trainer's way: the file's name, its language for colouring, and what writes it."""

    file: str
    language: str
    write: Callable[[Job], str]


def recipe(name: str, model: str, data: PurePath, settings: Settings, *, validation: bool) -> str:
    """Return the text of one of RECIPES for these settings; what a place left open has its default."""
    whole = params.PLAIN | dict(settings)
    run = read(whole)
    assert run
    return RECIPES[name].write(Job(model, str(data), run, validation))


def _json(job: Job) -> str:
    kept = {name: getattr(job.run, name) for name, row in params.PARAMS.items() if row.here}
    return (
        json.dumps({"model": job.model, "data": job.data, "settings": kept}, indent=2, ensure_ascii=False)
        + "\n"
    )


def _trl(job: Job) -> str:
    run = job.run
    again = "True" if run.gradient_checkpointing == "on" else "torch.cuda.is_available()"
    again = "False" if run.gradient_checkpointing == "off" else again
    squeezed = {
        "no": "",
        "8bit": ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)",
        "4bit": ", quantization_config=BitsAndBytesConfig(load_in_4bit=True)",
    }[run.quantised]
    best = run.keep == "best" and job.validation
    patience = run.early_stopping if job.validation else 0
    also = [
        name for name, so in (("BitsAndBytesConfig", squeezed), ("EarlyStoppingCallback", patience)) if so
    ]
    names = ", ".join(sorted(["AutoModelForCausalLM", "AutoTokenizer", *also]))
    lines = [
        '"""Fine-tune with TRL: python train_trl.py (needs: torch, transformers, trl, peft, datasets)."""',
        "",
        "from pathlib import Path",
        "",
        "import torch",
        "from datasets import load_dataset",
        *(["from peft import LoraConfig"] if run.method != "full" else []),
        f"from transformers import {names}",
        "from trl import SFTConfig, SFTTrainer",
        "",
        f"MODEL = {json.dumps(job.model, ensure_ascii=False)}",
        f"DATA = Path({json.dumps(job.data, ensure_ascii=False)})",
        'OUT = Path("tuned")',
        "",
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)",
        "half = torch.cuda.is_available() and torch.cuda.is_bf16_supported()",
        f"kind = {_kind(run)}",
        f"model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=kind{squeezed})",
        'files = {"train": str(DATA / "train.jsonl")}',
        *(['files["validation"] = str(DATA / "validation.jsonl")'] if job.validation else []),
        'rows = load_dataset("json", data_files=files).select_columns("messages")',
    ]
    if run.too_long == "leave_out":
        lines += [
            "",
            "",
            "def fits(row):",
            '    ids = tokenizer.apply_chat_template(row["messages"])["input_ids"]',
            f"    return len(ids) <= {run.max_length}",
            "",
            "",
            "rows = rows.filter(fits)",
        ]
    lines += [
        "config = SFTConfig(",
        "    output_dir=str(OUT),",
        f"    learning_rate={run.learning_rate!r},",
        f"    num_train_epochs={_short(run.epochs)},",
        f"    per_device_train_batch_size={run.batch_size},",
        f"    per_device_eval_batch_size={run.batch_size},",
        f"    gradient_accumulation_steps={run.accumulation},",
        f"    warmup_steps={run.warmup_ratio!r},  # below 1 it is a share of the steps",
        f'    lr_scheduler_type="{run.scheduler}",',
        "    max_grad_norm=1.0,",
        f"    seed={run.seed},",
        f"    max_length={run.max_length},",
        "    assistant_only_loss=True,  # only the answers are learned",
        "    packing=False,",
        f"    activation_checkpointing={again},",
        "    bf16=half,",
        "    logging_steps=1,",
        f'    eval_strategy="{"epoch" if job.validation else "no"}",',
        f'    save_strategy="{"epoch" if best or patience else "no"}",',
        *(["    load_best_model_at_end=True,"] if best or patience else []),
        *(['    metric_for_best_model="eval_loss",'] if best or patience else []),
        '    report_to="none",',
        ")",
    ]
    if run.method != "full":
        lines += [
            "lora = LoraConfig(",
            f"    r={run.lora_rank},",
            f"    lora_alpha={_short(run.lora_alpha)},",
            f"    lora_dropout={_short(run.lora_dropout)},",
            *(["    use_dora=True,"] if run.method == "dora" else []),
            '    target_modules="all-linear",',
            '    task_type="CAUSAL_LM",',
            ")",
        ]
    lines += [
        "trainer = SFTTrainer(",
        "    model=model,",
        "    args=config,",
        '    train_dataset=rows["train"],',
        *(['    eval_dataset=rows["validation"],'] if job.validation else []),
        "    processing_class=tokenizer,",
        *(["    peft_config=lora,"] if run.method != "full" else []),
        *([f"    callbacks=[EarlyStoppingCallback({patience})],"] if patience else []),
        ")",
        "trainer.train()",
        *(['print("validation loss", trainer.evaluate()["eval_loss"])'] if job.validation else []),
        "trainer.save_model(str(OUT))",
        "tokenizer.save_pretrained(OUT)",
    ]
    return "\n".join(lines) + "\n"


def _llamafactory(job: Job) -> str:
    run = job.run
    template = _template(job.model)
    known = {"messages": "messages"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    tags["system_tag"] = "system"
    files = {"firsttune": "train.jsonl"} | (
        {"firsttune_held_back": "validation.jsonl"} if job.validation else {}
    )
    info = {
        name: {"file_name": file, "formatting": "sharegpt", "columns": known, "tags": tags}
        for name, file in files.items()
    }
    remarks = [
        "LLaMA-Factory: llamafactory-cli train llamafactory.yaml",
        f"It finds the data through {job.data}/dataset_info.json; write this into it:",
        json.dumps(info),
    ]
    if not template:
        remarks.append("template: look your model up in the table of LLaMA-Factory's README.")
    if run.too_long == "leave_out":
        remarks.append("Rows over cutoff_len are cut; it has no setting that leaves them out.")
    values: dict[str, object] = {
        "model_name_or_path": job.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full" if run.method == "full" else "lora",
    }
    values |= _lora(run, {"lora_target": "all"})
    if run.quantised != "no":
        values["quantization_bit"] = int(run.quantised[0])
    values |= {
        "dataset_dir": job.data,
        "dataset": "firsttune",
        "template": template or "default",
        "cutoff_len": run.max_length,
        "output_dir": "tuned",
        "logging_steps": 1,
        "report_to": "none",
        "per_device_train_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.accumulation,
        "learning_rate": run.learning_rate,
        "num_train_epochs": run.epochs,
        "lr_scheduler_type": run.scheduler,
        "warmup_ratio": run.warmup_ratio,
        "max_grad_norm": 1.0,
        "seed": run.seed,
        "bf16": True,
    }
    if run.gradient_checkpointing == "off":
        values["disable_gradient_checkpointing"] = True
    if job.validation:
        values |= {"eval_dataset": "firsttune_held_back", "per_device_eval_batch_size": run.batch_size}
        values["eval_strategy"] = "epoch"
    best = job.validation and (run.early_stopping or run.keep == "best")
    values["save_strategy"] = "epoch" if best else "no"
    if best:
        values |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    if job.validation and run.early_stopping:
        values["early_stopping_steps"] = run.early_stopping
    return _yaml(remarks, values)


def _swift(job: Job) -> str:
    run = job.run
    values: dict[str, object] = {
        "model": job.model,
        "tuner_type": "full" if run.method == "full" else "lora",
        "dataset": f"{job.data}/train.jsonl",
    }
    if job.validation:
        values["val_dataset"] = f"{job.data}/validation.jsonl"
    values |= _lora(run, {"target_modules": "all-linear"})
    if run.quantised != "no":
        values |= {"quant_method": "bnb", "quant_bits": int(run.quantised[0])}
    values |= {
        "torch_dtype": "bfloat16",
        "max_length": run.max_length,
        "truncation_strategy": "delete" if run.too_long == "leave_out" else "right",
        "num_train_epochs": run.epochs,
        "per_device_train_batch_size": run.batch_size,
        "per_device_eval_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.accumulation,
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": run.scheduler,
        "warmup_ratio": run.warmup_ratio,
        "max_grad_norm": 1.0,
        "seed": run.seed,
        "gradient_checkpointing": run.gradient_checkpointing != "off",
        "logging_steps": 1,
        "output_dir": "tuned",
    }
    if job.validation:
        values |= {"eval_strategy": "epoch", "save_strategy": "epoch"}
    if job.validation and (run.keep == "best" or run.early_stopping):
        values |= {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    remarks = [
        "# ms-swift 4; in 3.x tuner_type is called train_type. A model of the Hugging Face Hub: --use_hf true"
    ]
    if run.early_stopping:
        remarks.append(
            f"# Early stopping after {run.early_stopping}: stop by hand, or with a callback of its own."
        )
    words = [f"    --{name} {shlex.quote(_plain(value))}" for name, value in values.items()]
    return "\n".join(remarks) + "\nswift sft \\\n" + " \\\n".join(words) + "\n"


def _axolotl(job: Job) -> str:
    run = job.run
    rows: dict[str, object] = {"type": "chat_template", "field_messages": "messages"}
    rows |= {"roles_to_train": ["assistant"], "train_on_eos": "turn"}

    def file(name: str) -> list[dict[str, object]]:
        return [{"path": f"{job.data}/{name}.jsonl", "ds_type": "json"} | rows]

    values: dict[str, object] = {
        "base_model": job.model,
        "chat_template": "tokenizer_default",
        "datasets": file("train"),
    }
    if job.validation:
        values["test_datasets"] = [one | {"split": "train"} for one in file("validation")]
    values |= {
        "sequence_len": run.max_length,
        "excess_length_strategy": "drop" if run.too_long == "leave_out" else "truncate",
        "sample_packing": False,
        "output_dir": "tuned",
    }
    if run.method != "full":
        values |= {
            "adapter": "qlora" if run.quantised == "4bit" else "lora",
            "lora_r": run.lora_rank,
            "lora_alpha": int(run.lora_alpha),
            "lora_dropout": run.lora_dropout,
            "lora_target_linear": True,
        }
    if run.method == "dora":
        values["peft_use_dora"] = True
    if run.quantised != "no":
        values["load_in_4bit" if run.quantised == "4bit" else "load_in_8bit"] = True
    values |= {
        "micro_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.accumulation,
        "num_epochs": run.epochs,
        "learning_rate": run.learning_rate,
        "optimizer": "adamw_torch",
        "weight_decay": 0.0,
        "lr_scheduler": run.scheduler,
        "warmup_ratio": run.warmup_ratio,
        "max_grad_norm": 1.0,
        "seed": run.seed,
        "bf16": "auto",
        "gradient_checkpointing": run.gradient_checkpointing != "off",
        "logging_steps": 1,
    }
    if job.validation:
        values |= {"evals_per_epoch": 1, "saves_per_epoch": 1}
    if job.validation and run.early_stopping:
        values["early_stopping_patience"] = run.early_stopping
    if job.validation and (run.keep == "best" or run.early_stopping):
        values["load_best_model_at_end"] = True
    return _yaml(["Axolotl: axolotl train axolotl.yaml"], values)


def _lora(run: Run, on: dict[str, str]) -> dict[str, object]:
    """Return the adapter in the words LLaMA-Factory and ms-swift share; `on` what, each says in its own."""
    if run.method == "full":
        return {}
    values = {"lora_rank": run.lora_rank, "lora_alpha": int(run.lora_alpha), "lora_dropout": run.lora_dropout}
    return {**values, **on, **({"use_dora": True} if run.method == "dora" else {})}


def _kind(run: Run) -> str:
    # weights that are all trained stay in fp32: a step can be smaller than bf16 can write down
    return "torch.float32" if run.method == "full" else "torch.bfloat16 if half else torch.float32"


def _template(model: str) -> str:
    name = model.rstrip("/").rpartition("/")[2].lower()
    return next((template for begin, template in TEMPLATES.items() if name.startswith(begin)), "")


def _yaml(remarks: list[str], values: Mapping[str, object]) -> str:
    """Return YAML: JSON for every value, which YAML is a superset of, lists of tables one to a line."""
    lines = [f"# {remark}" for remark in remarks]
    for name, value in values.items():
        if isinstance(value, list):
            lines.append(f"{name}:")
            lines += [f"  - {json.dumps(one, ensure_ascii=False)}" for one in value]
        else:
            lines.append(f"{name}: {_scalar(value)}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    if isinstance(value, str):
        simple = value.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum()
        return value if simple and not value[0].isdigit() else json.dumps(value, ensure_ascii=False)
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # 1e-05 is a word to YAML 1.1, which wants a point in it
        return f"{value:.10f}".rstrip("0").rstrip(".") if value else "0"
    return str(value)


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


RECIPES: dict[str, Recipe] = {
    "trl": Recipe("train_trl.py", "python", _trl),
    "llamafactory": Recipe("llamafactory.yaml", "yaml", _llamafactory),
    "swift": Recipe("swift.sh", "bash", _swift),
    "axolotl": Recipe("axolotl.yaml", "yaml", _axolotl),
    "json": Recipe("settings.json", "json", _json),
}
