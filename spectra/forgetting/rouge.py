"""Summaries written by the model, compared with the reference by ROUGE-L."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from transformers import GenerationConfig, PreTrainedTokenizerBase

from spectra.forgetting.answers import is_seq2seq, prompts
from spectra.forgetting.batches import Tokens, length_ordered, pad
from spectra.forgetting.held_out import HeldOut
from spectra.models import Model
from spectra.statistics.scores import Scores, fingerprint


def rouge_l(model: Model, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut, *, batch_size: int) -> Scores:
    """1 - ROUGE-L of greedy generations.

    P = LCS / words generated,  R = LCS / words of the reference,  ROUGE-L = 2 P R / (P + R)

    LCS is the longest common subsequence of stemmed, lower-cased words. A causal model gets the instruction after the
    source; an encoder-decoder gets the source alone, as it was tuned.

    Raises:
        DataError: If the task has no references.
        ModelError: If the model generates no text.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3; package rouge-score.
        Difference: sentence-level ROUGE-L (`rougeL`, not `rougeLsum`); the loss is one minus the score.
    """
    held_out.require_kind("seq2seq")
    seq2seq = is_seq2seq(model, held_out.name)
    rows = held_out.test_rows()
    instruction = "" if seq2seq else held_out.instruction
    contexts, cut = prompts(tokenizer, rows["source"], instruction, held_out.max_length, seq2seq=seq2seq)
    written = generate(model, tokenizer, contexts, held_out.max_new_tokens, batch_size=batch_size, seq2seq=seq2seq)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    scores = np.array(
        [scorer.score(target, text)["rougeL"].fmeasure for target, text in zip(rows["target"], written, strict=True)],
        dtype=np.float64,  # the package says 0, not 0.0, where nothing was written
    )
    settings = {"measure": "rouge-l", "max_length": held_out.max_length, "max_new_tokens": held_out.max_new_tokens}
    return Scores(
        task=held_out.name,
        metric="rouge-l",
        unit="1 - ROUGE-L",
        values=1 - scores,
        weights=np.ones_like(scores),
        score_name="ROUGE-L",
        score=float(scores.mean()),
        fingerprint=fingerprint(settings, [*contexts, *rows["target"]]),
        details={
            "words_written": float(np.mean([len(text.split()) for text in written])),
            "texts_cut": float(cut.cut),
        },
        warnings=held_out.warnings(cut),
    )


def generate(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[Tokens],
    max_new_tokens: int,
    *,
    batch_size: int,
    seq2seq: bool,
) -> list[str]:
    """Greedy continuations (or, of an encoder-decoder, answers) of each context, without special tokens."""
    device = model.device
    # The checkpoint's own generation settings may sample or search; only its token numbers are kept.
    own = model.generation_config
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )
    texts = [""] * len(contexts)
    for positions in length_ordered(contexts, batch_size):
        batch = [contexts[position] for position in positions]
        # A causal model continues at the right end of the row, so padding stands on the left.
        ids, mask = pad(batch, tokenizer.pad_token_id, side="right" if seq2seq else "left", device=device)
        output = cast(Any, model).generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        new = output if seq2seq else output[:, ids.shape[1] :]
        for position, text in zip(positions, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[position] = text.strip()
    return texts
