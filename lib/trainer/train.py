"""The run from start to end: load, tokenise, train, save; and a share of it, for another process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lib import practice
from lib.errors import JobError, ModelError
from lib.jobfolder import JobFolder
from lib.trainer import memory, precision, process, quiet, ranks, trackers
from lib.trainer.settings import Settings, read

if TYPE_CHECKING:
    from lib.trainer.model import Where


@dataclass(frozen=True, slots=True)
class Run:
    """What a job folder asks for; `room` is where its checkpoints lie."""

    asked: dict[str, Any]
    settings: Settings
    where: Where
    room: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a run works with, once loaded. `half`: in bf16 where it is quick, see precision.py."""

    model: Any
    tokenizer: Any
    own_template: bool
    device: str
    half: bool


def work(folder: JobFolder, given: Path | None, processes: int | None = None) -> int:
    """Train what `folder` asks for and leave its result there. Returns the exit code, as `process.hold` does.

    `given` is the folder where a Hub model's files are; `processes` how many may share each step's rows, by
    default one for each graphics card in sight.
    """
    return process.hold(folder, lambda held: _lead(held, given, processes))


def follow(folder: JobFolder, given: Path | None, me: ranks.Rank) -> NoReturn:
    """Take a share of the run in `folder`, for the process that works there."""
    ranks.follow(lambda: _follow(folder, given, me), lambda error: process.told(error, folder))


def _lead(folder: JobFolder, given: Path | None, processes: int | None) -> None:
    begun = time.monotonic()
    run = _asked(folder, given)
    folder.report("loading")
    most = processes or (1 if run.where.practice else ranks.cards())
    processes, _ = ranks.dealt(run.settings, most)
    if processes == 1:
        quiet.see_one_card()
    with ranks.led(folder, processes, given) as me:
        _train(folder, run, me, begun)


def _follow(folder: JobFolder, given: Path | None, me: ranks.Rank) -> None:
    run = _asked(folder, given)
    from lib.trainer import checkpoints, progress

    loaded, settings, rows = _prepared(folder, run, me, lambda _name, _row: None)
    ranks.join(me, loaded.device)
    checkpoint = checkpoints.newest_whole(run.room)  # as the leader has left them, and it waits for us now
    watch = progress.Evaluations(folder, evaluate=bool(rows["validation"].input_ids))
    loop = loop_for(loaded, rows, settings, run.room, watch, [], fresh=checkpoint is None, me=me)
    loop.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _asked(folder: JobFolder, given: Path | None) -> Run:
    from lib.trainer import model

    asked = folder.asked()
    settings = read(asked.get("settings"))
    if settings is None:
        raise JobError("job.folder_broken", folder=str(folder.path))
    return Run(asked, settings, model.where(asked, given), folder.path / "checkpoints")


def _train(folder: JobFolder, run: Run, me: ranks.Rank, begun: float) -> None:
    from lib.trainer import checkpoints, progress

    stop = progress.Stop(folder)
    reported = trackers.prepare(run.asked.get("report_to") or (), folder.path)

    def look(name: str, row: int) -> None:
        if stop.wanted():
            raise progress.StopError
        folder.report("tokenising", file=name, rows=row)

    try:
        loaded, settings, rows = _prepared(folder, run, me, look)
    except progress.StopError:
        folder.halt(step=0, adapter=None, seconds=round(time.monotonic() - begun, 1))
        return

    checkpoint = checkpoints.newest_whole(run.room)
    resumed = checkpoints.step_of(checkpoint) if checkpoint else 0
    checkpoints.forget_after(folder, resumed if checkpoint else -1)
    if checkpoint:
        _say("going on", step=resumed)
    else:
        shutil.rmtree(folder.path / "best", ignore_errors=True)  # of a run that is done all over again
    ranks.join(me, loaded.device)
    best = checkpoints.Best(
        folder.path / "best", lambda place: _save(loop.model, loaded.tokenizer, run.where.name, place)
    )
    watch = progress.Progress(
        folder,
        stop,
        learning_rate=settings.learning_rate,
        evaluate=bool(rows["validation"].input_ids),
        device=loaded.device,
        save_every=float(run.asked.get("save_every") or progress.SAVE_EVERY),
        patience=settings.early_stopping,
        best=best.look,
    )
    loop = loop_for(loaded, rows, settings, run.room, watch, reported, fresh=checkpoint is None, me=me)
    started = time.monotonic()
    try:
        loop.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except progress.StopError:
        watch.stopped = True
        if loop.state.global_step > resumed:
            loop.checkpoint()
    except Exception:
        checkpoints.newest_whole(
            run.room
        )  # deletes what a full disk has left half-written: room for the result
        raise
    trained = time.monotonic() - started

    step, steps = int(loop.state.global_step), int(loop.state.max_steps)
    folder.report("saving", step=step, steps=steps)
    # all of a model is no adapter: it is a model folder of its own
    kept = "model" if settings.method == "full" else "adapter"
    chosen = best.step if settings.keep == "best" and best.step and not watch.stopped else step
    if chosen:
        with checkpoints.replacing(folder.path / kept) as place:
            if chosen == step:
                _save(loop.model, loaded.tokenizer, run.where.name, place)
            else:
                shutil.copytree(best.place, place, dirs_exist_ok=True)
    train, validation = rows["train"], rows["validation"]
    evaluations = [row["eval_loss"] for row in folder.metrics() if row.get("eval_loss") is not None]
    facts: dict[str, Any] = {
        "step": step,
        "steps": steps,
        "epochs": settings.epochs,
        "adapter": "adapter" if chosen and kept == "adapter" else None,
        "model": "model" if chosen and kept == "model" else None,
        "method": settings.method,
        "kept_step": chosen or None,
        "best_step": best.step,
        "stopped_early": step if watch.stopped_early else None,
        "base": str(run.where.folder),
        "loss": watch.loss,
        "eval_loss_before": evaluations[0] if evaluations else None,
        "eval_loss": evaluations[-1] if evaluations else None,
        "eval_loss_best": min(evaluations, default=None),
        "rows": len(train.input_ids),
        "rows_validation": len(validation.input_ids),
        "rows_too_long": train.too_long,
        "rows_cut": train.cut,
        "rows_left_out": train.left_out,
        "tokens": train.tokens,
        "tokens_learned": train.learned,
        "tokens_per_second": round(loop.read() / max(1e-9, trained - watch.paused), 1),
        "memory": memory.used(loaded.device),
        "parameters": loaded.model.num_parameters(),
        "parameters_trained": sum(p.numel() for p in loop.model.parameters() if p.requires_grad),
        "device": loaded.device,
        "processes": me.of,
        "bf16": loaded.half,
        "own_template": loaded.own_template,
        "resumed_at": resumed or None,
        "seconds": round(time.monotonic() - begun, 1),
        "seconds_training": round(trained, 1),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }
    if watch.stopped:
        folder.halt(**facts)
    else:
        folder.finish(**facts)
        folder.tidy()  # only now: killed before, it must be able to go on
    _say("stopped" if watch.stopped else "done", step=step, seconds=facts["seconds"])


def _prepared(
    folder: JobFolder, run: Run, me: ranks.Rank, look: Callable[[str, int], None]
) -> tuple[Loaded, Settings, dict[str, Any]]:
    """Return the model, the settings as it allows them, and the rows by file; `look` as `_read` calls it."""
    from lib.trainer import data, model

    quiet.after_import()
    loaded = _load(run, me)
    # no model reads further than it has positions
    longest = model.longest(loaded.model)
    settings = replace(run.settings, max_length=min(run.settings.max_length, longest))
    rows = _read(folder.path / "data", loaded.tokenizer, settings, look)
    if run.where.practice:
        known = run.where.folder / practice.KNOWN
        rows["known"] = data.read_rows(known, loaded.tokenizer, longest, lambda _: None)
    return loaded, settings, rows


def _read(
    place: Path, tokenizer: Any, settings: Settings, look: Callable[[str, int], None]
) -> dict[str, Any]:
    """Tokenise both files; raise `ModelError` where nothing is left to train on.

    `look` is called with a file's name and the number of its rows read, every few rows.
    """
    from lib.trainer import data

    rows = {}
    for name in ("train", "validation"):
        some = data.read_rows(
            place / f"{name}.jsonl",
            tokenizer,
            settings.max_length,
            partial(look, name),
            leave_out=settings.too_long == "leave_out",
        )
        _say(name, rows=some.read, cut=some.cut, left_out=some.left_out, tokens=some.tokens)
        rows[name] = some
    train = rows["train"]
    if not train.read:
        raise ModelError("trainer.no_rows", file="train.jsonl")
    if not train.input_ids and not train.too_long:
        raise ModelError("trainer.nothing_to_learn", rows=train.read)
    if not train.input_ids:
        raise ModelError(
            "trainer.all_too_long", rows=train.read, longest=train.longest, max_length=settings.max_length
        )
    return rows


def _load(run: Run, me: ranks.Rank) -> Loaded:
    import torch

    from lib.trainer import model

    where, settings = run.where, run.settings
    torch.set_num_threads(quiet.threads(where.practice, me.of))
    if where.practice:
        quiet.keep_memory()
    device = "cpu"
    if torch.cuda.is_available() and not where.practice:
        device = "cuda"
        torch.cuda.set_device(me.number)
    elif torch.backends.mps.is_available() and not where.practice:
        device = "mps"
    lacking = model.can_quantise() if settings.quantised != "no" else ""
    if lacking:
        raise ModelError("trainer.cannot_quantise", quantised=settings.quantised, lacking=lacking)
    if settings.quantised != "no" and settings.method == "full":
        raise ModelError("trainer.full_quantised")
    size = memory.parameters(where.folder)
    half = precision.half(device, size)
    needs, free = memory.needed(size or 0, settings, half=half), memory.free(device)
    if needs > free:
        raise ModelError("trainer.does_not_fit", model=where.name, needs=needs, free=free)
    tokenizer, own = model.load_tokenizer(where.folder)
    # weights that are all trained stay in fp32: a step can be smaller than bf16 can write down
    kind = torch.bfloat16 if half and settings.method != "full" else torch.float32
    weights = model.load_model(where.folder, kind, quantised=settings.quantised)
    _say("loaded", model=where.name, device=device, processes=me.of, bf16=half, own_template=own)
    return Loaded(weights, tokenizer, own, device, half)


def loop_for(
    loaded: Loaded,
    rows: dict[str, Any],
    settings: Settings,
    room: Path,
    watch: Any,
    reported: list[str],
    *,
    fresh: bool,
    me: ranks.Rank = ranks.ALONE,
) -> Any:
    """Return the loop that trains `rows` as `settings` say; `watch` is told of every step, if anyone.

    `rows` are by file, `train` and `validation`; with `known`, what the model knew is measured as well.
    `me`: this process's rank among those that share each step.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig

    from lib.trainer.loop import Loop, Piles

    def by_length(some: Any) -> Any:
        order = sorted(range(len(some.input_ids)), key=lambda row: len(some.input_ids[row]))
        columns = ("input_ids", "labels")
        return Dataset.from_dict({name: [getattr(some, name)[row] for row in order] for name in columns})

    train, validation = rows["train"], by_length(rows["validation"])
    _, mine = ranks.dealt(settings, me.of)
    gpu = loaded.device == "cuda"
    again = settings.gradient_checkpointing == "on" or (gpu and settings.gradient_checkpointing == "auto")
    config = SFTConfig(
        output_dir=str(room),
        run_name=room.parent.name,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=mine.batch_size,
        per_device_eval_batch_size=mine.batch_size,
        gradient_accumulation_steps=mine.accumulation,
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of the steps
        lr_scheduler_type=settings.scheduler,
        max_grad_norm=1.0,
        seed=settings.seed,
        max_length=settings.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},  # data.py has done it
        packing=False,  # loop.py keeps padding small without mixing rows
        activation_checkpointing=again,
        bf16=loaded.half,
        use_cpu=loaded.device == "cpu",
        dataloader_pin_memory=gpu,
        # of a mixture of experts a process may use only some
        ddp_find_unused_parameters=hasattr(loaded.model.config.get_text_config(), "output_router_logits"),
        logging_strategy="steps",
        logging_steps=1,  # a mean over several could not be the same in a run that goes on in between
        logging_nan_inf_filter=False,  # progress.py ends a run that has blown up; the filter would hide it
        eval_strategy="no",  # progress.py says when
        eval_on_start=fresh and len(validation) > 0,
        save_strategy="no",  # progress.py says when
        save_total_limit=2,
        report_to=reported,
        disable_tqdm=True,
        log_level="error",
    )
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_dora=settings.method == "dora",
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    # one row more, of which nothing is learned, for a process that gets no other (Piles)
    filler = [loaded.tokenizer.eos_token_id] * 2
    loop = Loop(
        model=loaded.model,
        args=config,
        train_dataset=Dataset.from_dict(
            {"input_ids": [*train.input_ids, filler], "labels": [*train.labels, [-100] * len(filler)]}
        ),
        eval_dataset=validation if len(validation) else None,
        processing_class=loaded.tokenizer,
        peft_config=None if settings.method == "full" else lora,
        callbacks=[watch] if watch else [],
        piles=Piles(
            [len(ids) for ids in train.input_ids],
            settings.batch_size,
            settings.seed,
            processes=me.of,
            each=mine.batch_size,
        ),
        known=by_length(rows["known"]) if "known" in rows else None,
    )
    if watch:
        watch.loop = loop
    loop.remove_callback(PrinterCallback)
    return loop


def _save(model: Any, tokenizer: Any, base: str, folder: Path) -> None:
    """Write the adapter, or all of a model that was trained whole, with its tokenizer and chat template."""
    if hasattr(model, "peft_config"):
        model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _say(what: str, **facts: object) -> None:
    print(what + ": " + ", ".join(f"{name}={fact}" for name, fact in facts.items()), flush=True)
