"""Make the practice model from nothing: `python -m lib.practice.pretrain [--out FOLDER]`.

Trains a tokenizer and a small Qwen2-shaped model on the chats of `corpus.py` and writes both, whole, to
`model/`. One seed; about fifteen minutes on two CPU cores. Prints its losses, the last of them on chats that
were never trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2ForCausalLM

from lib.practice import KNOWN, folder, making
from lib.practice.corpus import SEED, Chat, chats, held_out
from lib.trainer import quiet

VOCABULARY = 4096
LONGEST = 512
BATCH, STEPS, RATE = 64, 3600, 3e-3
HELD_OUT = 64  # chats that ship with the model
QUESTIONS = 0.2  # what a token of a question counts, where one of an answer counts 1

# ChatML; what stands between the generation marks is what an assistant says, so trainers can find it.
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a share of the corpus."""
    some = itertools.islice(chats(SEED), 30_000)
    texts = (m["content"] for chat in some for m in chat)
    return making.tokenizer(
        texts, VOCABULARY, TEMPLATE, model_max_length=LONGEST, clean_up_tokenization_spaces=False
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Return the model with random weights."""
    return making.model(
        len(tokenizer),
        tokenizer.eos_token_id,
        width=128,
        inner=384,
        layers=3,
        heads=4,
        seed=SEED,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
    )


def batches(tokenizer: PreTrainedTokenizerFast, texts: Iterator[Chat]) -> Iterator[dict[str, Any]]:
    """Yield padded batches; chats of like length travel together."""
    while True:
        pool = list(itertools.islice(texts, BATCH * 20))
        whole = tokenizer([tokenizer.apply_chat_template(chat, tokenize=False) for chat in pool])["input_ids"]
        asked = [
            tokenizer.apply_chat_template(c[:-1], tokenize=False, add_generation_prompt=True) for c in pool
        ]
        opening = [len(ids) for ids in tokenizer(asked)["input_ids"]]
        rows = sorted(zip(whole, opening, strict=True), key=lambda row: len(row[0]))
        groups = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        for place in torch.randperm(len(groups)).tolist():
            batch = tokenizer.pad({"input_ids": [ids for ids, _ in groups[place]]}, return_tensors="pt")
            counts = batch["attention_mask"].float()
            for row, (_, start) in enumerate(groups[place]):
                counts[row, :start] *= QUESTIONS
            yield {**batch, "counts": counts}


def weighed_loss(model: Qwen2ForCausalLM, batch: dict[str, Any]) -> torch.Tensor:
    """Return the mean loss of a batch's tokens, each as much as it counts."""
    hidden = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0][:, :-1]
    counts, next_ids = batch["counts"][:, 1:], batch["input_ids"][:, 1:]
    there = counts > 0
    losses = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[there]), next_ids[there], reduction="none"
    )
    loss: torch.Tensor = (losses * counts[there]).sum() / counts.sum()
    return loss


def main() -> None:
    """Make the tokenizer, train the model, write both."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--out", type=Path, default=folder())
    asked.add_argument("--steps", type=int, default=STEPS)
    given = asked.parse_args()
    torch.set_num_threads(2)
    quiet.keep_memory()
    begun = time.monotonic()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    feed = batches(tokenizer, chats(SEED + 1))
    model.train()
    for step in range(given.steps):
        warm = min(1.0, (step + 1) / 100)
        rate = RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / given.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = weighed_loss(model, next(feed))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == given.steps - 1:
            print(f"step {step} loss {loss.item():.3f} after {time.monotonic() - begun:.0f} s", flush=True)
    model.eval()
    held_back = batches(tokenizer, chats(SEED + 2))
    with torch.no_grad():
        losses = [weighed_loss(model, next(held_back)).item() for _ in range(20)]
    print(f"on unseen chats: loss {sum(losses) / len(losses):.3f}", flush=True)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.half().save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    trained = itertools.islice(chats(SEED + 1), given.steps * BATCH)
    lines = [json.dumps({"messages": chat}, ensure_ascii=False) for chat in held_out(HELD_OUT, trained)]
    (given.out / KNOWN).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
