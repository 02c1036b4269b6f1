"""All answers of a study, from its tables and its rules alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectra.runs.study_schema import study_table
from spectra.study.answers.association import association_comparisons, association_verdict
from spectra.study.answers.dose import dose_comparisons
from spectra.study.answers.intruders import intruder_comparisons, matched
from spectra.study.answers.mending import mending_comparisons
from spectra.study.answers.paper import Sign, paper_signs
from spectra.study.answers.prevention import front, prevention_comparisons, prevention_verdict
from spectra.study.answers.saving import Advised, saving_comparisons, saving_verdict
from spectra.study.comparison import Answer, answer
from spectra.study.specification import StudySettings
from spectra.study.tables import StudyTables


@dataclass(frozen=True, eq=False)
class Answers:
    """What a study found.

    Attributes:
        answers: One per question that was asked, in alphabetical order.
        signs: The paper's findings beside those of the study.
        tables: Every table that the folder keeps, by name.
    """

    answers: tuple[Answer, ...]
    signs: tuple[Sign, ...]
    tables: Mapping[str, pd.DataFrame]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "answers": [one.to_dict() for one in self.answers],
            "paper": [one.row() for one in self.signs],
        }


def answers_of(
    tables: StudyTables, settings: StudySettings, advised: Advised | None = None, *, without_advice: str = ""
) -> Answers:
    """Answer the questions that were asked.

    Args:
        tables: Of the study.
        settings: Its questions and rules.
        advised: The advised adapter of question e; None where there is none.
        without_advice: Why there is none.
    """
    level = settings.each_level
    matches = matched(tables)
    found: list[Answer] = []
    for question in sorted(settings.questions):
        match question:
            case "a":
                found.append(answer("a", intruder_comparisons(matches, level=level)))
            case "b":
                found.append(answer("b", dose_comparisons(tables, level=level)))
            case "c":
                slopes = association_comparisons(tables, level=level, reliability=settings.norm_reliability)
                found.append(answer("c", slopes, association_verdict(slopes, tables.primary)))
            case "d":
                found.append(answer("d", mending_comparisons(tables, level=level, within_level=settings.level)))
            case "e":
                savings = saving_comparisons(
                    advised, tables.trials_of_the_sweep, tables.forgetting, level=level, reason=without_advice
                )
                found.append(answer("e", savings, saving_verdict(savings, settings.margin)))
            case "f":
                beside = prevention_comparisons(tables, level=level)
                found.append(answer("f", beside, prevention_verdict(beside)))
    signs = paper_signs(tables, level=settings.level)
    return Answers(
        tuple(found),
        signs,
        {
            "study_trials": tables.trials,
            "matches": matches,
            "comparisons": study_table("comparisons", [one.row() for each in found for one in each.comparisons]),
            **({"front": front(tables, level=settings.level)} if "f" in settings.questions else {}),
            "paper_signs": study_table("paper_signs", [one.row() for one in signs]),
        },
    )
