"""What settings would do: plan, play with the tiny model, write them for another trainer, see a row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from lib import backends, params, playground, practice, preflight, seen
from lib.cli.parts import DataFolder, Json, ModelName, SetTo, here, model_of, say, set_to, tell
from lib.errors import ModelError, UsageError
from lib.script import recipes


def plan(
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
    as_json: Json = False,
) -> None:
    """Say what a training would take on this computer, and what speaks against it. Nothing starts."""
    backend, asked, settings = here(model, given)
    broken = len(backend.check(data).errors)
    card = preflight.card(data, settings, preflight.known("local", asked, broken_rules=broken))
    about = "" if card.tokens.counted else "about "
    lines = [
        f"{card.color}: {card.rows} rows, {card.validation} kept back; {card.steps} steps of"
        f" {card.per_epoch} an epoch; {card.checks} evaluations; {about}{card.trained:,} tokens trained"
    ]
    if card.seconds is not None:
        lines.append(f"  about {say('preflight.time', seconds=card.seconds)}")
    if card.memory is not None:
        lines.append(f"  about {say('preflight.size', size=card.memory)} of memory")
    lines += [f"  {finding.color}: {_finding(finding)}" for finding in card.findings]
    tell(as_json, asdict(card) | {"color": card.color}, "\n".join(lines))


def play(
    data: DataFolder,
    given: SetTo = None,
    rows: Annotated[int, typer.Option(min=1, help="So many of its rows are learned from, at most.")] = (
        playground.TRAINED
    ),
    practice: Annotated[
        bool, typer.Option("--practice", help="Learning rates are those of the practice model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the playground's tiny model on some rows, and say what the settings did."""
    ranges = backends.local.Local().ranges
    start = params.defaults(ranges, params.PRACTICE if practice else None)
    settings = start | set_to(given, ranges)
    sample = playground.sample(data, rows)
    if not sample.trained:
        raise UsageError("play.no_rows", folder=str(data))
    run = playground.play(sample, playground.chosen(settings, practice=practice))
    said = [say(f"playground.said.{run.verdict}", **run.facts)]
    said += [say(f"playground.note.{note}", n=run.steps, **run.facts) for note in run.notes]
    curves = {"loss": run.loss, "validation": run.validation, "known": run.known}
    told: dict[str, Any] = {
        "verdict": run.verdict,
        "notes": run.notes,
        "steps": run.steps,
        "facts": run.facts,
    }
    told |= {"question": run.question, "before": run.answers[0], "after": run.answers[1]}
    for name, series in curves.items():
        told[name] = {"steps": series.steps.tolist(), "values": series.values.tolist()}
    text = [*said, f"{run.question}", f"  before: {run.answers[0]}", f"  after:  {run.answers[1]}"]
    tell(as_json, told, "\n".join(text))


def recipe(
    trainer: Annotated[str, typer.Argument(help=", ".join(recipes.RECIPES) + ".")],
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
) -> None:
    """Print the same settings for another trainer."""
    if trainer not in recipes.RECIPES:
        raise UsageError("recipe.unknown", name=trainer, known=", ".join(recipes.RECIPES))
    backend, asked, settings = here(model, given)
    backend.train_file(data)  # a recipe for rows that are not there is of no use
    held_back = data / "validation.jsonl"
    name = str(practice.folder()) if asked["kind"] == "practice" else asked["id"]
    there = held_back.is_file() and held_back.stat().st_size > 0
    typer.echo(recipes.recipe(trainer, name, data, settings, validation=there), nl=False)


def see(
    data: DataFolder,
    row: Annotated[int, typer.Option(min=1, help="Which row of its training file.")] = 1,
    model: ModelName = "practice",
    max_length: Annotated[int, typer.Option(min=1, help="Tokens after which a row is cut.")] = 1024,
    leave_out: Annotated[bool, typer.Option(help="Leave longer rows out instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show a row as the model reads it; what it learns stands between » and «."""
    asked = model_of(model)
    folder = backends.local.folder(asked)
    if folder is None:
        raise ModelError("trainer.not_fetched", model=asked["id"])
    file = backends.local.Local().train_file(data)
    found, own = seen.look(folder, file, row, max_length, leave_out=leave_out)
    text = "".join(f"»{piece}«" if learned else piece for piece, learned in found.pieces)
    counts = f"{found.tokens} tokens, {found.learned} learned"
    tell(as_json, asdict(found) | {"own_template": own}, f"{text}\n{counts}")


def _finding(finding: preflight.Finding) -> str:
    if finding.advice is None:
        return say(f"preflight.{finding.key}", **finding.facts)
    name = say(f"param.{finding.advice.name}.name")
    what = say(finding.advice.key, **finding.advice.facts)
    return say("preflight.setting", name=name, what=what)
