"""Hold the counts of a finished run against the definition, applied to merged checkpoints by code of its own.

    python scripts/check_counts.py runs/demo --base spectra/assets/shipped/demo-lm

Every adapter is merged by peft, every full checkpoint loaded as it is; each weight goes through two float64 NumPy SVDs
and all cosines. No function of spectra touches a number here. Prints one line per trial; exit code 1 if any differs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)


def count(W0: np.ndarray, W: np.ndarray, k: int, epsilon: float) -> int:
    """Definition 3.1 with the absolute cosine."""
    U0 = np.linalg.svd(W0, full_matrices=False)[0]
    U = np.linalg.svd(W, full_matrices=False)[0][:, :k]
    return int((np.abs(U0.T @ U).max(axis=0) < epsilon).sum())


def load(folder: str | Path, base: str, **options: int) -> PreTrainedModel:
    """A checkpoint with the head that the base's kind is tuned with: a language model's own, or a classifier."""
    causal = any(name.endswith("ForCausalLM") for name in AutoConfig.from_pretrained(base).architectures or [])
    kind, given = (AutoModelForCausalLM, {}) if causal else (AutoModelForSequenceClassification, options)
    return kind.from_pretrained(folder, dtype=torch.float32, **given)


def tuned_weights(trial: Path, base: str) -> dict[str, torch.Tensor]:
    """All weights after tuning, by their names in the body: peft's merge of an adapter, or the checkpoint."""
    if (trial / "adapter").is_dir():
        model = peft.PeftModel.from_pretrained(
            load(base, base, num_labels=2), str(trial / "adapter")
        ).merge_and_unload()
    else:
        model = load(trial / "checkpoint", base)
    return {name.removeprefix(f"{model.base_model_prefix}."): weight for name, weight in model.state_dict().items()}


def main() -> None:
    """Check every trial of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--base", required=True, help="folder of the pre-trained model")
    asked = parser.parse_args()
    tables = asked.run / "tables"
    trials, matrices = (pd.read_parquet(tables / f"{name}.parquet") for name in ("trials", "matrices"))
    before = AutoModel.from_pretrained(asked.base, dtype=torch.float32).state_dict()
    wrong = 0
    for trial in trials.itertuples():
        if not any((asked.run / "trials" / trial.trial / kept).is_dir() for kept in ("adapter", "checkpoint")):
            print(json.dumps({"trial": trial.label, "skipped": "its weights were not kept (keep: all keeps them)"}))
            continue
        after = tuned_weights(asked.run / "trials" / trial.trial, asked.base)
        mine = matrices[matrices["trial"] == trial.trial]
        differing = []
        for row in mine.itertuples():
            W0, W = (state[f"{row.name}.weight"].double().numpy() for state in (before, after))
            if count(W0, W, int(trial.k), float(trial.epsilon)) != row.count:
                differing.append(row.name)
        wrong += len(differing)
        name = f"{trial.label}, {trial.learning_rate:g}"
        print(json.dumps({"trial": name, "count": int(trial.count), "matrices": len(mine), "differing": differing}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
