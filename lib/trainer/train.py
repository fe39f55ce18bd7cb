"""The run from start to end: load, tokenise, train, save."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lib.errors import JobError, ModelError
from lib.jobfolder import JobFolder
from lib.trainer import failure, quiet

# What job.json must hold under `settings`; lib/params.py says what each is.
SETTINGS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "accumulation",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "max_length",
    "warmup_ratio",
    "seed",
)
BUSY = 75  # as in lib/jobs.py, which watches for it


@dataclass(slots=True)
class Loaded:
    """What a run works with, once loaded."""

    model: Any
    tokenizer: Any
    own_template: bool
    device: str


def work(folder: JobFolder, given: Path | None) -> int:
    """Train what `folder` asks for and leave its result there. Returns the exit code: 1 if it failed.

    Where another process is at work in the folder, nothing is touched and the exit code is `BUSY`.
    """
    settings: dict[str, float] = {}
    try:
        with folder.working():
            try:
                asked = folder.asked()
                settings = _settings(asked, folder)
                _run(folder, asked, settings, given)
            except Exception as error:
                told = failure.told(error, folder.path, settings)
                print(f"failed: {told}", flush=True)
                folder.fail(told)
                return 1
    except JobError as error:
        if error.key != "job.busy":
            raise
        print(error, flush=True)
        return BUSY
    return 0


def _run(folder: JobFolder, asked: dict[str, Any], settings: dict[str, float], given: Path | None) -> None:
    begun = time.monotonic()
    folder.report("loading")
    from lib.trainer import checkpoints, model, progress

    quiet.after_import()
    stop = progress.Stop(folder)
    where = model.where(asked, given)
    loaded = _load(where)
    # no model reads further than it has positions
    settings["max_length"] = min(settings["max_length"], model.longest(loaded.model))
    _say("loaded", model=where.name, device=loaded.device, own_template=loaded.own_template)

    try:
        rows = _read(folder, loaded.tokenizer, int(settings["max_length"]), stop)
    except progress.StopError:
        folder.halt(step=0, adapter=None, seconds=round(time.monotonic() - begun, 1))
        return

    room = folder.path / "checkpoints"
    checkpoint = checkpoints.newest_whole(room)
    resumed = checkpoints.step_of(checkpoint) if checkpoint else 0
    checkpoints.forget_after(folder, resumed if checkpoint else -1)
    if checkpoint:
        _say("going on", step=resumed)
    watch = progress.Progress(
        folder, stop, learning_rate=settings["learning_rate"], evaluate=bool(rows["validation"].input_ids)
    )
    trainer = _trainer(loaded, rows, settings, room, watch, fresh=checkpoint is None)
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except progress.StopError:
        watch.stopped = True
    trained = time.monotonic() - started

    step, steps = int(trainer.state.global_step), int(trainer.state.max_steps)
    folder.report("saving", step=step, steps=steps)
    if step:
        _save(trainer.model, loaded.tokenizer, where.name, folder.path / "adapter")
    train, validation = rows["train"], rows["validation"]
    evaluations = [row["eval_loss"] for row in folder.metrics() if row.get("eval_loss") is not None]
    tokens = train.tokens * settings["epochs"] * (step - resumed) / max(1, steps)
    facts: dict[str, Any] = {
        "step": step,
        "steps": steps,
        "epochs": settings["epochs"],
        "adapter": "adapter" if step else None,
        "base": str(where.folder),
        "loss": watch.loss,
        "eval_loss_before": evaluations[0] if evaluations else None,
        "eval_loss": evaluations[-1] if evaluations else None,
        "eval_loss_best": min(evaluations, default=None),
        "rows": len(train.input_ids),
        "rows_validation": len(validation.input_ids),
        "rows_cut": train.cut,
        "rows_left_out": train.left_out,
        "tokens": train.tokens,
        "tokens_learned": train.learned,
        "tokens_per_second": round(tokens / max(1e-9, trained), 1),
        "parameters": loaded.model.num_parameters(),
        "parameters_trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "device": loaded.device,
        "own_template": loaded.own_template,
        "resumed_at": resumed or None,
        "seconds": round(time.monotonic() - begun, 1),
        "seconds_training": round(trained, 1),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }
    if watch.stopped:
        folder.halt(**facts)
    else:
        shutil.rmtree(room, ignore_errors=True)
        folder.finish(**facts)
    _say("stopped" if watch.stopped else "done", step=step, seconds=facts["seconds"])


def _read(folder: JobFolder, tokenizer: Any, max_length: int, stop: Any) -> dict[str, Any]:
    """Tokenise both files; raise `ModelError` where nothing is left to train on."""
    from lib.trainer import data, progress

    rows = {}
    for name in ("train", "validation"):

        def look(row: int, name: str = name) -> None:
            if stop.wanted():
                raise progress.StopError
            folder.report("tokenising", file=name, rows=row)

        some = data.read_rows(folder.path / "data" / f"{name}.jsonl", tokenizer, max_length, look)
        _say(name, rows=some.read, cut=some.cut, left_out=some.left_out, tokens=some.tokens)
        rows[name] = some
    train = rows["train"]
    if not train.read:
        raise ModelError("trainer.no_rows", file="train.jsonl")
    if not train.input_ids and not train.cut:
        raise ModelError("trainer.nothing_to_learn", rows=train.read)
    if not train.input_ids:
        raise ModelError(
            "trainer.all_too_long", rows=train.read, longest=train.longest, max_length=max_length
        )
    return rows


def _settings(asked: dict[str, Any], folder: JobFolder) -> dict[str, float]:
    settings = asked.get("settings")
    if not isinstance(settings, dict) or any(name not in settings for name in SETTINGS):
        raise JobError("job.folder_broken", folder=str(folder.path))
    return {name: settings[name] for name in SETTINGS}


def _load(where: Any) -> Loaded:
    import torch

    from lib.trainer import model

    torch.set_num_threads(quiet.threads(where.practice))
    if where.practice:
        quiet.keep_memory()
    cuda = torch.cuda.is_available() and not where.practice
    # bf16 on a CPU without AMX is ten times slower than fp32. Source: measured 2026-11.
    half = cuda and torch.cuda.is_bf16_supported()
    tokenizer, own = model.load_tokenizer(where.folder)
    weights = model.load_model(where.folder, torch.bfloat16 if half else torch.float32)
    return Loaded(weights, tokenizer, own, "cuda" if cuda else "cpu")


def _trainer(
    loaded: Loaded, rows: dict[str, Any], settings: dict[str, float], room: Path, watch: Any, *, fresh: bool
) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    tables = {
        name: Dataset.from_dict({"input_ids": some.input_ids, "labels": some.labels})
        if some.input_ids
        else None
        for name, some in rows.items()
    }
    pile = int(settings["batch_size"]) * int(settings["accumulation"])
    steps = -(-len(rows["train"].input_ids) // pile) * settings["epochs"]
    gpu = loaded.device == "cuda"
    config = SFTConfig(
        output_dir=str(room),
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=int(settings["batch_size"]),
        per_device_eval_batch_size=int(settings["batch_size"]),
        gradient_accumulation_steps=int(settings["accumulation"]),
        warmup_steps=settings["warmup_ratio"],  # below 1 it is a share of the steps
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        seed=int(settings["seed"]),
        max_length=int(settings["max_length"]),
        dataset_kwargs={"skip_prepare_dataset": True},  # data.py has done it
        packing=False,
        activation_checkpointing=gpu,
        bf16=gpu and loaded.model.dtype.itemsize == 2,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        logging_strategy="steps",
        logging_steps=max(1, int(steps // 200)),
        logging_nan_inf_filter=False,  # progress.py ends a run that has blown up; the filter would hide it
        eval_strategy="no",  # progress.py says when
        eval_on_start=fresh and tables["validation"] is not None,
        save_strategy="no",  # progress.py says when
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    lora = LoraConfig(
        r=int(settings["lora_rank"]),
        lora_alpha=int(settings["lora_alpha"]),
        lora_dropout=settings["lora_dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = SFTTrainer(
        model=loaded.model,
        args=config,
        train_dataset=tables["train"],
        eval_dataset=tables["validation"],
        processing_class=loaded.tokenizer,
        peft_config=lora,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _save(model: Any, tokenizer: Any, base: str, folder: Path) -> None:
    """Write the adapter, its tokenizer and chat template; the folder appears when all of it is there."""
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)


def _say(what: str, **facts: object) -> None:
    print(what + ": " + ", ".join(f"{name}={fact}" for name, fact in facts.items()), flush=True)
