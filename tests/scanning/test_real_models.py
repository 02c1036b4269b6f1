"""The definition's verdicts on a real pre-trained encoder after a short training at a high rate, at every epsilon."""

from pathlib import Path

import peft
import pytest
import torch

import spectra
from spectra import Selection
from spectra.assets import fetched
from spectra.models import load_base, resolve_model
from spectra.weights import open_pair
from tests import reference

BASE = "all-MiniLM-L6-v2"
LAYERS = r"layer\.(0|5)\."
EPSILONS = tuple(round(0.1 * i, 1) for i in range(1, 10))
K = 10
# float32 scans against a float64 reference: the rounding of the cosines.
ROUNDING = 1e-4
TEXTS = ("a film of rare beauty", "two hours I shall never get back", "see it twice", "dull from start to end")
LABELS = torch.tensor([1.0, -1.0, 1.0, -1.0])


def trained(folder: Path, method: str) -> Path:
    """Twelve steps of Adam that push the first token's output apart for two classes of sentences."""
    torch.manual_seed(0)
    base = load_base(BASE, "encoder")
    model = base.model
    if method == "lora":
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))
    batch = base.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-2 if method == "lora" else 1e-3)
    for _ in range(12):
        scores = model(**batch).last_hidden_state[:, 0].sum(dim=1)
        loss = torch.nn.functional.softplus(-LABELS * scores).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.assets
@pytest.mark.parametrize("method", ["lora", "full"])
def test_certified_verdicts_on_a_trained_minilm_are_the_definitions_at_every_epsilon(
    tmp_path: Path, method: str
) -> None:
    if fetched(BASE) is None:
        pytest.skip(f"asset {BASE} is not in the cache")
    folder, base = trained(tmp_path / method, method), str(resolve_model(BASE))
    scan = spectra.intruders(
        folder, base=base, k=K, epsilons=EPSILONS, method="certified", selection=Selection(include=LAYERS)
    )
    pairs = {str(pair.name): pair for pair in open_pair(base, folder, Selection(include=LAYERS)).matrices}
    assert len(scan.matrices) == len(pairs) == 12
    for matrix in scan.matrices:
        pair = pairs[matrix.name]
        W0, W = pair.W0.load(dtype=torch.float64, device="cpu"), pair.W_tuned(torch.float64)
        assert not torch.equal(W0, W)
        for vector, true in zip(matrix.vectors, reference.largest_cosines(W0.numpy(), W.numpy(), K), strict=True):
            assert vector.lower - ROUNDING <= true <= vector.upper + ROUNDING
            for epsilon in EPSILONS:
                assert vector.ill_conditioned or (vector.upper < epsilon) == (true < epsilon)
    if method == "lora":
        assert scan.count > 0  # both outcomes are among the verdicts
