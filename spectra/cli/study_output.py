"""What `spectra study` prints: the verdicts with the figures that decided, and the paper's findings."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import spectra
from spectra.cli.sweep import print_plan
from spectra.cli.tables import print_table
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.study import Study, StudySpecification

WIDTH = 100


def print_study_plan(study: "StudySpecification", out: Path, *, as_json: bool) -> None:
    """The trials and what they cost, then the interventions and the questions."""
    print_plan(spectra.plan_sweep(study.sweep, out), as_json=as_json)
    asked = study.study
    arms, factors = 1 + len(asked.interventions.controls), len({*asked.interventions.lambdas} - {1.0})
    lines = [
        f"Interventions: on every trial that is treated ({asked.interventions.trials}), {arms} arms at {factors} "
        f"factors, so up to {arms * factors + 2} measurements.",
        f"Every interval has level {asked.each_level:.4g}; {len(study.seeds)} seeds.",
        *(f"{letter}. {question['text']}" for letter, question in asked.described().items()),
    ]
    for line in lines:
        echo(line, err=as_json)


def print_study(study: "Study", *, as_json: bool) -> None:
    """The verdicts for people, or everything as one JSON object."""
    if as_json:
        echo(json.dumps(study.to_dict(), indent=2, ensure_ascii=False))
        return
    for sentence in study.record["counts"]:
        echo(sentence)
    for one in study.answers.answers:
        echo(f"\n{one.question}. {one.text}")
        echo(f"   {one.sentence}")
    said = Counter(sign.judgement for sign in study.answers.signs)
    print_table(
        ("the paper reports", "judgement"), [(one.sign, one.judgement) for one in study.answers.signs], numeric=()
    )
    echo(", ".join(f"{count} {judgement}" for judgement, count in said.items()))
    if study.record["excluded"]:
        warn([f"{len(study.record['excluded'])} trials take no part; the report says why."])
    if study.missing:
        warn([f"The study is not complete: {len(study.missing)} parts are missing, the first is {study.missing[0]}."])
    echo(f"Report: {study.report}")
