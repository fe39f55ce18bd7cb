"""How like an answer is to the one in the data: exact match, chrF, ROUGE-L. Larger is more alike.

    exact      the same but for blanks at the ends
    chrF       shared runs of up to six characters, blanks not counted; 0 to 100. As sacrebleu counts it
    ROUGE-L    the longest sequence of words that both have, as F-measure; 0 to 100. As rouge-score counts it

ROUGE was made for English: rouge-score's own tokenizer keeps a to z and digits and drops all else, so two
Chinese answers would always score 0. Here a word is a run of letters and digits of any script, in lower case;
of scripts that put no blanks between words (Chinese characters, kana) each character is a word of its own.
No stemming. For Chinese, then, ROUGE-L counts characters, and can't be compared with figures over words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

# CJK ideographs with extension A and the compatibility block, hiragana and katakana, extensions B and later.
_ALONE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def words(text: str) -> list[str]:
    """Return the words of a text as ROUGE-L counts them here."""
    return _WORD.findall(text.lower())


def exact(answer: str, reference: str) -> bool:
    """Return whether an answer is the reference, blanks at the ends aside."""
    return answer.strip() == reference.strip()


def chrf(answer: str, reference: str) -> float:
    """Return the chrF of one answer."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(answer, [reference]).score)


def chrf_of_all(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the chrF of many answers: runs of characters are counted over all of them together."""
    from sacrebleu import corpus_chrf

    return float(corpus_chrf(list(answers), [list(references)]).score)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean ROUGE-L of some answers."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    found: list[float] = [
        scorer.score(reference, answer)["rougeL"].fmeasure
        for answer, reference in zip(answers, references, strict=True)
    ]
    return 100 * sum(found) / max(1, len(found))


def how() -> dict[str, Any]:
    """Return with what was counted, for whoever wants to compare figures."""
    return {name: version(name) for name in ("sacrebleu", "rouge-score")} | {
        "rouge_words": "characters if CJK"
    }


class _Words:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
