"""The training loop: TRL's, without paying for padding or for words that nobody learns from.

What differs from a plain `SFTTrainer`; the losses are the same:

- Rows of like length travel together (`Piles`), and a pile's attention is told of no padding: it lies behind
  each row's last token, which never looks there.
- The model's head, for a small model a third of the work, is applied only where something is learned.
- The validation loss is the mean over all learned tokens, whatever pile they are in, so that runs of
  different batch sizes can be compared. An evaluation draws no random number: a run learns the same with and
  without.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback
from trl import SFTTrainer

MIXED = 16  # piles sorted by length together: few enough that no two epochs have the same piles
# More numbers than this in one pile's predictions (a quarter of a GB, three times over), and TRL's way of
# making them tile by tile is taken: slower on a processor, but it needs no memory.
MOST_LOGITS = 1 << 26


class Piles(Sampler[int]):
    """The order of rows in an epoch: shuffled by the seed and the epoch alone, like lengths together.

    The pile with the longest row is the very first, so that memory that is too small shows at once.

    Several `processes` take batches of `each` rows in turn from one order. A step deals them the rows that a
    single process would learn from in it; where those do not go round, the number behind the last is dealt.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, *, processes: int = 1, each: int = 0
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._processes = processes
        self._together = (each or batch_size) * processes  # rows that all take at once
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        rows = len(self._lengths)
        return rows if self._processes == 1 else -(-rows // self._together) * self._together

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        if self._processes == 1:
            yield from order
            return
        filler, each = len(self._lengths), self._together // self._processes
        for at in range(0, len(order), self._together):
            rows = order[at : at + self._together]
            for number in range(self._processes):
                share = rows[number :: self._processes]  # one after the other, so that all get like lengths
                yield from share + [filler] * (each - len(share))

    def _order(self) -> list[int]:
        dice = random.Random(f"{self._seed}/{self._epoch}")
        rows = list(range(len(self._lengths)))
        dice.shuffle(rows)
        size, many = self._batch_size, self._batch_size * MIXED
        sorted_rows: list[int] = []
        for at in range(0, len(rows), many):
            sorted_rows += sorted(rows[at : at + many], key=self._lengths.__getitem__, reverse=True)
        piles = [sorted_rows[at : at + size] for at in range(0, len(rows), size)]
        # the loader cuts this order into piles by count, so a short one must be the last
        short = [piles.pop()] if piles and len(piles[-1]) < size else []
        dice.shuffle(piles)
        if self._epoch == 0 and piles:
            first = max(range(len(piles)), key=lambda pile: max(map(self._lengths.__getitem__, piles[pile])))
            piles[0], piles[first] = piles[first], piles[0]
        return [row for pile in piles + short for row in pile]


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tell the piles which epoch it is.

    accelerate would, but not where a run of several processes goes on in the middle of an epoch: what skips
    batches there does not pass it on, and rows would come twice and others never. Source: seen with 1.15.
    """

    def __init__(self, piles: Piles) -> None:
        self._piles = piles

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._piles.set_epoch(int(state.epoch or 0))


class Loop(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the differences above.

    `piles`: the order of the training rows. `known`: rows of what the model has learned before; an evaluation
    gives the loss on them as `eval_known_loss`.
    """

    control: Any

    def __init__(self, *given: Any, piles: Piles, known: Any = None, **named: Any) -> None:
        self._piles = piles
        self._known = known
        self._read: Any = 0
        self._random: dict[str, Any] = {}
        super().__init__(*given, **named)
        self.add_callback(_Epochs(piles))

    def read(self) -> int:
        """Return how many tokens have been read in training, by all processes, padding not counted."""
        return int(self._read)

    def remember(self) -> None:
        """Remember the random numbers' state, to which `checkpoint` goes back; call it after every step."""
        self._random = {"cpu": torch.get_rng_state()}
        if self.args.device.type == "cuda":
            self._random["cuda"] = torch.cuda.get_rng_state()

    def checkpoint(self) -> None:
        """Write a checkpoint as of the last whole step, from outside the loop; wait for no other process."""
        if self._random:
            torch.set_rng_state(self._random["cpu"])
            if "cuda" in self._random:
                torch.cuda.set_rng_state(self._random["cuda"])
        self._save_checkpoint(self.model, None)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return a step's batches and how many tokens all processes learn from it."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        read = sum(batch["attention_mask"].sum() for batch in batches)
        if self.args.world_size > 1:
            read = self.accelerator.reduce(torch.as_tensor(read, device=device))
            # Whatever was drawn before: so nobody's random numbers but the step's belong in a checkpoint, and
            # one process can write it alone.
            place = f"{self.args.seed}/{self.args.process_index}/{self.state.global_step}"
            torch.manual_seed(random.Random(place).getrandbits(63))
        self._read = self._read + read
        return batches, items

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of what is learned; an accumulated step is one mean over all its parts."""
        if self.aux_loss_enabled or return_outputs:  # a mixture of experts has a second loss, which TRL adds
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        losses, counts, _ = self._sums(model, inputs)
        items = counts.sum() if num_items_in_batch is None else num_items_in_batch
        loss = losses.sum() / torch.as_tensor(items).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # their gradients are averaged, the items are of all
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss and the share of tokens guessed right, over all learned tokens."""
        del ignore_keys
        begun = time.monotonic()
        self.model.eval()
        loss, accuracy = self._measured(eval_dataset)
        metrics = {f"{metric_key_prefix}_loss": loss, f"{metric_key_prefix}_mean_token_accuracy": accuracy}
        if self._known is not None:
            metrics[f"{metric_key_prefix}_known_loss"], _ = self._measured(self._known)
        metrics[f"{metric_key_prefix}_runtime"] = time.monotonic() - begun
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, _inputs: Any) -> int:
        """Count none: nobody reads it, and counting looks at every parameter at every step."""
        return 0

    def store_flos(self) -> None:
        """Add up none: processes would wait for each other to do it, and only one writes a checkpoint."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self.args.world_size == 1:  # else the numbers are the step's, see get_batch_samples
            super()._load_rng_state(checkpoint)

    def _get_train_sampler(self, _dataset: Any = None) -> Piles:
        return self._piles

    def _measured(self, rows: Any) -> tuple[float, float]:
        """Return the mean loss of what is learned in some rows, and the share of it that is guessed right."""
        totals = torch.zeros(3, dtype=torch.float64)
        with torch.random.fork_rng(devices=()), torch.no_grad():
            for batch in self.get_eval_dataloader(rows):
                inputs = self._prepare_inputs(batch)
                with self.compute_loss_context_manager():
                    told = torch.stack([part.float() for part in self._sums(self.model, inputs)], dim=1)
                totals += self.accelerator.gather_for_metrics(told).sum(0).cpu().double()
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        loss, count, right = totals.tolist()
        return loss / max(1.0, count), right / max(1.0, count)

    def _sums(self, model: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """Return for each row the sum of its losses, how many tokens it learns, how many it guesses right."""
        labels = inputs["labels"]
        asked = {name: value for name, value in inputs.items() if name not in ("labels", "attention_mask")}
        asked["use_cache"] = False
        wanted = labels[:, 1:] != -100
        if self._in_tiles(wanted):
            told = model(**asked, labels=labels, fused_lm_head=True)
            return -told.log_probs.sum(1), told.label_mask.sum(1), told.is_top1.sum(1)

        def only(_head: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (given[0][:, :-1][wanted][None],)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(only)
        try:
            logits = model(**asked).logits
        finally:
            hook.remove()
        if logits.shape[:2] == labels.shape:  # the head is no module of its own: nothing was hooked
            logits = logits[:, :-1][wanted][None]
        logits, targets = logits[0].float(), labels[:, 1:][wanted]
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        guessed = targets == logits.argmax(-1) if not self.model.training else torch.zeros_like(targets)
        rows, nothing = wanted.nonzero()[:, 0], losses.new_zeros(len(labels))
        right = nothing.index_add(0, rows, guessed.to(losses.dtype))
        return nothing.index_add(0, rows, losses), wanted.sum(1), right

    def _in_tiles(self, wanted: Any) -> bool:
        if wanted.device.type == "cuda":
            return True  # there TRL's kernel looks only where something is learned, too
        return int(wanted.sum()) * int(self.model.config.get_text_config().vocab_size) > MOST_LOGITS
