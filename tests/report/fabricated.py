"""Fabricated tables for the tests of the report: seeded, shaped like a real sweep, and of adjustable outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectra.records import Grid, IntruderScan, LeadingVector, MatrixScan, Scan
from spectra.records.measures import Measure, NullLine, UpdateNorms
from spectra.records.verdicts import Skipped
from spectra.report import write_scan_report
from spectra.report.inputs.material import Material
from spectra.runs import BESIDE_RUNS, SCHEMAS, Run, tidy

ROLES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
BLOCKS = ("attention", "attention", "attention", "attention", "mlp", "mlp")
HOSTILE = "<script>alert('x')</script>\"'&amp; \N{PILE OF POO} \N{RIGHT-TO-LEFT OVERRIDE}שלום " + "very-long-" * 12
# What a reader is shown of it: the mark that would turn the text around is replaced.
SHOWN = HOSTILE.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "\N{REPLACEMENT CHARACTER}")
K = 10
EPSILON = 0.5


@dataclass(frozen=True)
class Recipe:
    """One configuration: what it is called, and how many intruders its trials get."""

    label: str
    method: str
    rank: int | None
    counts: tuple[int, ...]
    forgetting: tuple[float, ...]
    score: float
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)


SWEEP = (
    Recipe("full", "full", None, (0, 0, 1), (0.011, 0.024, 0.071), 0.837, (2e-5, 5e-5, 1e-4)),
    Recipe("LoRA r=1 α=2", "lora", 1, (0, 3, 16), (0.004, 0.019, 0.098), 0.801),
    Recipe("LoRA r=8 α=16", "lora", 8, (0, 31, 44), (0.012, 0.052, 0.127), 0.836),
    Recipe("LoRA r=64 α=128", "lora", 64, (0, 6, 21), (0.008, 0.033, 0.169), 0.838),
    Recipe("LoRA r=64 α=8", "lora", 64, (0, 12, 30), (0.006, 0.015, 0.061), 0.829),
)


def without_intruders(recipes: Sequence[Recipe] = SWEEP) -> list[Recipe]:
    """The same sweep, with forgetting and not one intruder."""
    return [Recipe(r.label, r.method, r.rank, (0, 0, 0), r.forgetting, r.score, r.learning_rates) for r in recipes]


def scan_of(
    seed: int,
    *,
    layers: int = 6,
    roles: Sequence[str] = ROLES,
    intruders: int = 7,
    width: int = 384,
    name: str = "checkpoint",
    bounds: bool = False,
    skipped: Sequence[Skipped] = (),
) -> IntruderScan:
    """A scan with `intruders` intruders spread over its matrices."""
    draw = np.random.default_rng(seed)
    matrices = []
    slots = layers * len(roles) * K
    intruding = set(draw.choice(slots, size=intruders, replace=False).tolist())
    for layer in range(layers):
        for position, role in enumerate(roles):
            shape = {4: (4 * width, width), 5: (width, 4 * width)}.get(position, (width, width))
            vectors = []
            for index in range(K):
                slot = (layer * len(roles) + position) * K + index
                is_intruder = slot in intruding
                cosine = float(draw.uniform(0.12, 0.48) if is_intruder else draw.beta(14, 1) * 0.45 + 0.54)
                slack = float(draw.uniform(0, 0.02)) if bounds else 0.0
                upper = min(cosine + slack, EPSILON - 1e-6) if is_intruder else min(1.0, cosine + slack)
                vectors.append(
                    LeadingVector(
                        index=index,
                        singular_value=float(40 * (index + 1) ** -0.6 + draw.uniform(0, 0.2)),
                        max_cosine=cosine,
                        is_intruder=is_intruder,
                        lower=cosine,
                        upper=upper,
                        decided_by="certificate" if bounds else "full factorisation",
                        ill_conditioned=bool(draw.uniform() < 0.02),
                    )
                )
            frobenius = float(draw.uniform(0.4, 1.2))
            matrices.append(
                MatrixScan(
                    name=f"encoder.layer.{layer}.{role}",
                    layer=layer,
                    role=role,
                    block=BLOCKS[position % len(BLOCKS)],
                    shape=shape,
                    method="certified" if bounds else "exact",
                    vectors=tuple(vectors),
                    seconds={"verdicts": 0.1},
                    measures=UpdateNorms(
                        frobenius, frobenius / 3, frobenius / 30, float(draw.uniform(4, 7)), float(draw.uniform(1, 3))
                    ).measures(),
                )
            )
    return IntruderScan(
        checkpoint=name,
        base="base-model",
        groups=("norms",),
        seed=0,
        k=K,
        epsilon=EPSILON,
        side="left",
        method="auto",
        matrices=tuple(matrices),
        skipped=tuple(skipped),
        epsilons=(EPSILON,),
        versions={"spectra": "0.1.0", "torch": "2.13.0"},
    )


def with_nulls(scan: IntruderScan, null: str, count: float) -> IntruderScan:
    """The same scan, with a control that has so many intruders in every matrix."""
    line = NullLine(null, count, count, count, 1)
    measure = Measure("intruders.count", 1.0, side="left", nulls=(line,))
    return replace(scan, matrices=tuple(replace(m, measures=(*m.measures, measure)) for m in scan.matrices))


def pictured(scan: IntruderScan, indices: int = 10, points: int = 30) -> IntruderScan:
    """The same scan with a similarity map and spectra for every matrix."""
    draw = np.random.default_rng(0)

    def values(count: int, scale: float) -> tuple[float, ...]:
        return tuple(scale * (index + 1) ** -0.6 for index in range(count))

    matrices = []
    for matrix in scan.matrices:
        rows = tuple(
            tuple(matrix.vectors[j].max_cosine if i == j < K else float(draw.uniform(0, 0.15)) for j in range(indices))
            for i in range(indices)
        )
        spectra = {"base_values": values(points, 40.0), "tuned_values": values(points, 41.0)}
        grids = (Grid("similarity", "left", rows),)
        matrices.append(replace(matrix, grids=grids, **spectra, update_values=values(8, 8.0)))
    return replace(scan, matrices=tuple(matrices))


def sweep_tables(
    recipes: Sequence[Recipe] = SWEEP,
    *,
    seeds: Sequence[int] = (0,),
    layers: int = 6,
    examples: int = 2000,
    null: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables of a sweep, as `Run.write_table` takes them."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    for position, recipe in enumerate(recipes):
        for rate, (learning_rate, count, forgotten) in enumerate(
            zip(recipe.learning_rates, recipe.counts, recipe.forgetting, strict=True)
        ):
            for seed in seeds:
                number = 100 * position + 10 * rate + seed
                trial = f"trial-{number:03d}"
                draw = np.random.default_rng(number)
                scan = scan_of(number, layers=layers, intruders=count)
                chosen = rate == 1
                relative = 0.01 * (1 + position) * (1 + rate) + 0.001 * seed
                rows["trials"].append(
                    {
                        "trial": trial,
                        "label": recipe.label,
                        "method": recipe.method,
                        "rank": recipe.rank,
                        "alpha": None if recipe.rank is None else 2.0 * recipe.rank,
                        "scaling": None if recipe.rank is None else 2.0,
                        "learning_rate": learning_rate,
                        "seed": seed,
                        "steps": 200,
                        "chosen": chosen,
                        "task": "movie-reviews",
                        "task_metric": "accuracy",
                        "validation_score": recipe.score - 0.02 * abs(rate - 1) + 0.001 * seed,
                        "task_score": recipe.score + 0.001 * seed if chosen else None,
                        "task_examples": examples if chosen else None,
                        "base_task_score": None,
                        "count": count,
                        "matrices": len(scan.matrices),
                        "k": K,
                        "epsilon": EPSILON,
                        "energy_share": float(np.mean([m.energy_share for m in scan.matrices])),
                        "update_frobenius": 100 * relative,
                        "update_relative": relative,
                        "effective_rank": 90.0 if recipe.rank is None else 0.8 * recipe.rank,
                        "trainable_parameters": 22_700_000 if recipe.rank is None else 150_000 * recipe.rank,
                        "optimiser_bytes": 181_600_000 if recipe.rank is None else 1_200_000 * recipe.rank,
                        "train_seconds": 88.0 + position,
                        "tokens_per_second": 9000.0 + 100 * position,
                        "peak_memory_bytes": 1_500_000_000,
                        "status": "done",
                        "error": "",
                    }
                )
                for heldout, factor in (("BBC topics, probe", 1.0), ("BBC topics, nearest neighbour", 2.2)):
                    amount = factor * forgotten + 0.001 * seed
                    rows["forgetting"].append(
                        {
                            "trial": trial,
                            "heldout": heldout,
                            "metric": "error rate",
                            "unit": "error rate",
                            "n": examples,
                            "base": 0.045,
                            "tuned": 0.045 + amount,
                            "forgetting": amount,
                            "low": amount - 0.009,
                            "high": amount + 0.009,
                            "base_score": 0.955,
                            "tuned_score": 0.955 - amount,
                        }
                    )
                rows["matrices"] += [{"trial": trial, **row} for row in scan.matrix_rows()]
                rows["vectors"] += [{"trial": trial, **row} for row in scan.vector_rows()]
                if chosen:
                    rows["controls"] += control_rows(trial, scan, number, null)
                    rows["update_spectra"] += update_rows(trial, scan, recipe.rank, number)
                rows["similarity"] += [
                    {
                        "trial": trial,
                        "name": scan.matrices[0].name,
                        "i": i,
                        "j": j,
                        "cosine": float(draw.uniform(0.8, 1) if i == j else draw.uniform(0, 0.15)),
                    }
                    for i in range(16)
                    for j in range(16)
                ]
                rows["history"] += [
                    {
                        "trial": trial,
                        "step": step,
                        "loss": 0.7 * 0.99**step + 0.2 + 0.03 * draw.uniform() + 0.02 * position,
                        "learning_rate": learning_rate,
                    }
                    for step in range(1, 201, 10)
                ]
    return rows


def control_rows(trial: str, scan: Scan, seed: int, null: int | None = None) -> list[dict[str, Any]]:
    """Verdicts on three controls of every matrix: two that intrude nowhere at EPSILON, one that does now and then.

    With `null`, that one has exactly so many.
    """
    draw = np.random.default_rng(seed)
    rows = []
    left = null
    for matrix in scan.matrices:
        for control, least in (("storage rounding", 0.97), ("dense gaussian", 0.8), ("random low rank", 0.3)):
            for index in range(K):
                cosine = float(draw.uniform(least, 1)) if index >= K - 3 else 0.99
                if left is not None and control == "random low rank":
                    cosine, left = (0.4, left - 1) if left > 0 else (0.99, 0)
                bounds = {"max_cosine": cosine, "lower": cosine, "upper": cosine, "is_intruder": cosine < EPSILON}
                rows.append({"trial": trial, "name": matrix.name, "control": control, "index": index, **bounds})
    return rows


def update_rows(trial: str, scan: Scan, rank: int | None, seed: int) -> list[dict[str, Any]]:
    """Falling singular values of every update."""
    draw = np.random.default_rng(seed)
    return [
        {"trial": trial, "name": matrix.name, "index": index, "value": float(0.8**index * draw.uniform(0.9, 1))}
        for matrix in scan.matrices
        for index in range(min(rank or 64, 64))
    ]


def sweep_material(tables: dict[str, list[dict[str, Any]]]) -> Material:
    """What a report is made of, without a run folder in between."""
    whole = {name: tidy(name, tables.get(name, [])) for name in (*SCHEMAS, *BESIDE_RUNS)}
    return Material(kind="sweep", title="fabricated", tables=whole)


def write_run(folder: Path, tables: dict[str, list[dict[str, Any]]], name: str = "fabricated") -> Path:
    """A run folder with these tables."""
    run = Run.create(
        folder,
        {
            "specification": {"name": name, "task": "movie-reviews", "k": K, "methods": [{"rank": 8}, {"rank": 1}]},
            "command": ["spectra", "sweep", "--out", "runs/demo"],
            "versions": {"spectra": "0.1.0", "torch": "2.13.0"},
            "hardware": {"system": "Linux x86_64", "cpus": 2, "memory_bytes": 24 * 2**30},
            "commit": "0123456789ab",
            "trials": [],
        },
        same={},
    )
    for table, rows in tables.items():
        run.write_table(table, rows)
    return folder


def hostile_scan_report(path: Path) -> Path:
    scan = scan_of(3, roles=(f"{HOSTILE} query", "b'\"", "<b>c</b>"), name=HOSTILE, skipped=[Skipped(HOSTILE, HOSTILE)])
    return write_scan_report(pictured(scan), path, command=HOSTILE)
