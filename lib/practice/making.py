"""A byte-level tokenizer of its own, and a model of Qwen2's shape in any size, with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def tokenizer(texts: Iterable[str], vocabulary: int, template: str, **named: Any) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of at most `vocabulary` tokens; `named` goes to the tokenizer."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=PAD, **named)
    whole.chat_template = template
    return whole


def model(
    vocabulary: int, end: int, *, width: int, inner: int, layers: int, heads: int, seed: int, **named: Any
) -> Qwen2ForCausalLM:
    """Return a model with random weights and tied embeddings; `named` goes to its config.

    `end`: the token that ends an answer; `width` and `inner` are in numbers, of a token and between.
    """
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        **named,
    )
    return Qwen2ForCausalLM(config)
