"""The code that loads a tuned model without FirstTune: with peft, with transformers alone."""

from __future__ import annotations


def adapter(base: str, system: str) -> str:
    """Return a program that answers with the adapter in `./adapter`; it needs torch, transformers and peft.

    `base` is the base model's id on the Hub or its folder; with "" the program wants it as --base.
    """
    given = f"default={base!r}" if base else "required=True"
    return f'''\
"""Answer with the tuned model: python load_adapter.py "A question" (needs: torch, transformers, peft)."""

import argparse
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

SYSTEM = {system!r}
HERE = Path(__file__).resolve().parent

asked = argparse.ArgumentParser()
asked.add_argument("question")
asked.add_argument("--base", {given}, help="the base model: its id on the Hub, or its folder")
given = asked.parse_args()

base = HERE / given.base if (HERE / given.base).is_dir() else given.base
tokenizer = AutoTokenizer.from_pretrained(HERE / "adapter")  # its chat template is the one of the training
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, HERE / "adapter").eval()
{_ANSWER}'''


def merged(system: str) -> str:
    """Return a program that answers with the weights in `./merged`; it needs torch and transformers."""
    return f'''\
"""Answer with the tuned model: python load_merged.py "A question" (needs: torch, transformers)."""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SYSTEM = {system!r}
HERE = Path(__file__).resolve().parent

asked = argparse.ArgumentParser()
asked.add_argument("question")
given = asked.parse_args()

tokenizer = AutoTokenizer.from_pretrained(HERE / "merged")  # its chat template is the one of the training
model = AutoModelForCausalLM.from_pretrained(HERE / "merged", dtype=torch.float32).eval()
{_ANSWER}'''


_ANSWER = """\

messages = [{"role": "system", "content": SYSTEM}] if SYSTEM else []
messages.append({"role": "user", "content": given.question})
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
with torch.inference_mode():
    said = model.generate(**prompt, max_new_tokens=256, do_sample=False, eos_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(said[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""
