"""The page of a study: verdicts, the paper's signs one by one, a chart and the figures of every question."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.report.figures.figure import Figure
from spectra.report.page import Page, Section, render
from spectra.report.study_figures import figures_of, front_figure
from spectra.report.study_inputs import StudyMaterial, study_material
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text
from spectra.report.tiles import Entry, Tile
from spectra.storage.atomic import write_text
from spectra.storage.destinations import REPORT, require_file

if TYPE_CHECKING:
    import pandas as pd

# Effects that a tile tells, and configurations that the first screen counts.
SHOWN, MOST = 2, 3

HEADINGS = {
    "a": "Adapters against full fine-tuning",
    "b": "Counts against rank, alpha, learning rate and steps",
    "c": "Forgetting and counts at equal norm",
    "d": "Removing intruders against shrinking the update",
    "e": "What the advice saves",
    "f": "Arms that keep what the base knew, against plain LoRA",
}


def write_study_report(folder: Path | str) -> Path:
    """Write the page of a study, RUN/study.html, from its verdicts and tables.

    Raises:
        RunError: If the folder is no study, or has no verdicts yet.
    """
    out = require_file(Path(folder) / "study.html", REPORT, force=True)
    write_text(out, render(study_page(study_material(folder))))
    return out


def study_page(material: StudyMaterial) -> Page:
    """The page."""
    answers = {one["question"]: one for one in material.answers}
    sections = [
        Section("verdicts", "The questions and their verdicts", tables=(_verdicts(material),)),
        *_front(material),
        *([] if set(answers) == {"f"} else [_paper(material)]),
        *(
            Section(
                f"question-{letter}",
                f"{letter}. {HEADINGS[letter]}",
                lead=f"{one['text']} {material.registration['questions'][letter]['rule']}",
                figures=figures_of(material, letter),
                tables=(_comparisons(material, letter),),
            )
            for letter, one in answers.items()
        ),
        Section("trials", "Every trial", tables=(_trials(material),)),
    ]
    return Page(
        title=material.record["title"] or "A study of intruder dimensions",
        kind="report of a study",
        tiles=_tiles(material),
        findings=_findings(material),
        first=next(
            (Section("first", "", figures=section.figures[:1]) for section in sections if section.figures), None
        ),
        warnings=_warnings(material),
        sections=[replace(section, figures=_others(section, sections)) for section in sections],
        facts=_facts(material),
        command=material.registration.get("command", ""),
    )


def _others(section: Section, sections: Sequence[Section]) -> tuple[Figure, ...]:
    """The figures of a section without the one that the first screen shows."""
    shown = next((one for one in sections if one.figures), None)
    return section.figures[1:] if section is shown else section.figures


def _findings(material: StudyMaterial) -> tuple[str, ...]:
    """How the questions came out, and the counts beside their controls."""
    verdicts = [str(one["verdict"]) for one in material.answers]
    counted = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    asked = "One question" if len(verdicts) == 1 else f"{len(verdicts)} questions"
    told = list(material.record["counts"])
    counts = "; ".join(told[:MOST]) + (f"; {len(told) - MOST} more under “Every trial”" if len(told) > MOST else "")
    return (
        f"{asked} that were fixed before the sweep: {', '.join(counted)}.",
        *([f"Intruder dimensions of the vectors looked at. {counts}."] if counts else []),
    )


def _tiles(material: StudyMaterial) -> tuple[Tile, ...]:
    """One tile per question: its verdict, and the figures that decided."""
    return tuple(
        Tile(HEADINGS[one["question"]], (Entry(str(one["verdict"]), note=_cut(one)),)) for one in material.answers
    )


def _cut(answer: Mapping[str, Any]) -> str:
    """The figures that decided; the section of the question holds the rest."""
    deciding = [one for one in answer["comparisons"] if one["decides"]]
    told = [_effect(one) for one in deciding if one["value"] is not None]
    more = f"; and {len(told) - SHOWN} more in its section" if len(told) > SHOWN else ""
    return (
        f"{'; '.join(told[:SHOWN])}{more}." if told else "Nothing that decides could be compared; its section says why."
    )


def _effect(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return f"{one['name']}: {one['note'] or 'no figure'}"
    value, ends = numbers.compact(one["value"]), _interval(one["low"], one["high"])
    effect = (
        f"{one['name']}: {value}{f' {ends}' if ends else ''} {one['unit']}{'' if ends else ', without an interval'}"
    )
    smallest = (
        "" if one["smallest"] is None else f"; an effect of {numbers.compact(one['smallest'])} would have been seen"
    )
    seeds, settings = (_number(one[f"{what}s"], what) for what in ("seed", "setting"))
    return f"{effect} ({seeds}, {settings}{smallest})"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"[{', '.join('unbounded' if end is None else numbers.compact(end) for end in (low, high))}]"


def _warnings(material: StudyMaterial) -> list[str]:
    record = material.record
    told = []
    if not record["complete"]:
        missing = record["missing"]
        told.append(
            f"The study is not complete, so these verdicts are preliminary: {len(missing)} parts are missing, the "
            f"first is {missing[0]}."
        )
    if record["excluded"]:
        told.append(
            f"{len(record['excluded'])} trials take no part, because they failed or did not beat the "
            f"{record['bar']['reason']}; they are listed under “Every trial”."
        )
    if record["bar"]["score"] is None:
        told.append(f"No trial is left out for having learnt nothing: {record['bar']['reason']}.")
    told.append(
        "All trials share one base model, one task and its data: what holds here may not hold elsewhere. A verdict of "
        "“not distinguishable” is no proof of no effect; the smallest effect that would have been seen stands beside "
        "it."
    )
    return told


def _verdicts(material: StudyMaterial) -> HtmlTable:
    import pandas as pd

    rows = [
        {
            "question": f"{one['question']}. {one['text']}",
            "verdict": one["verdict"],
            "effect": " — ".join(_effect(each) for each in one["comparisons"] if each["decides"]),
            "seeds": one["seeds"] or max(_of_deciding(one, "seeds"), default=0),
            "settings": one["settings"] or max(_of_deciding(one, "settings"), default=0),
        }
        for one in material.answers
    ]
    columns = {
        "question": text("Question"),
        "verdict": text("Verdict"),
        "effect": text("Effects that decide, with their intervals"),
        "seeds": Column("Seeds", numbers.count),
        "settings": Column("Settings", numbers.count),
    }
    return html_table("study-verdicts", "Verdicts", pd.DataFrame(rows, columns=list(columns)), columns)


def _of_deciding(answer: Mapping[str, Any], what: str) -> list[int]:
    """How many seeds or settings stand behind each effect that decides."""
    return [int(one[what]) for one in answer["comparisons"] if one["decides"]]


def _signs(material: StudyMaterial) -> HtmlTable:
    columns = {
        "sign": text("The paper reports"),
        "paper": Column("Its figure", numbers.written, is_number=False),
        "found": Column("Found here", numbers.written, is_number=False),
        "judgement": text("Judgement"),
        "note": text("Note"),
    }
    return html_table("paper-signs", "The paper's findings", material.tables["paper_signs"], columns)


def _paper(material: StudyMaterial) -> Section:
    """The paper's signs; a study of question f alone has nothing to hold against them."""
    return Section(
        "paper",
        "The paper's findings, one by one",
        lead="Shuttleworth et al., arXiv:2410.21228. Each finding beside the figure of this study with its "
        "interval over seeds, or over settings for correlations, each at the study's level by itself.",
        tables=(_signs(material),),
    )


def _front(material: StudyMaterial) -> tuple[Section, ...]:
    """Of question f: every configuration at its chosen rate, and where it stands."""
    if "front" not in material.tables:
        return ()
    columns = {
        "label": text("Configuration"),
        "learning_rate": Column("Learning rate", numbers.exact),
        "score": Column("Test score", numbers.decimal),
        "score_low": Column("Lower end", numbers.decimal),
        "score_high": Column("Upper end", numbers.decimal),
        "forgetting": Column("Forgetting", numbers.decimal),
        "forgetting_low": Column("Lower end", numbers.decimal),
        "forgetting_high": Column("Upper end", numbers.decimal),
        "stands": text("Where it stands"),
        "count": Column("Intruder dimensions", numbers.compact),
        "control_count": Column("Of the null control", numbers.compact),
        "update_relative": Column("‖ΔW‖ / ‖W0‖", numbers.compact),
        "train_seconds": Column("Seconds of training", numbers.compact),
        "seeds": Column("Seeds", numbers.count),
    }
    lead = (
        f"Task score against forgetting of {material.record['primary']}, every configuration at the learning rate that "
        "validation chose. On the front: no other one has both a higher mean score and a lower mean forgetting. "
        "Behind: another one has, and one of the two differences, paired by seed, is told from zero. Intervals are "
        "over seeds, each at the study's level by itself."
    )
    drawn = front_figure(material)
    return (
        Section(
            "front",
            "Task score against forgetting",
            lead=lead,
            figures=(drawn,) if drawn is not None else (),
            tables=(html_table("study-front", "Every configuration", material.tables["front"], columns),),
        ),
    )


def _comparisons(material: StudyMaterial, question: str) -> HtmlTable:
    table = material.tables["comparisons"]
    table = table[table["question"] == question].copy()
    table["deciding"] = ["yes" if decides else "" for decides in table["decides"].astype(bool)]
    columns = {
        "name": text("Comparison"),
        "over": text("Configuration"),
        "heldout": text("Held-out task"),
        "value": Column("Effect", numbers.compact),
        "low": Column("Lower end", numbers.compact),
        "high": Column("Upper end", numbers.compact),
        "unit": text("Unit"),
        "seeds": Column("Seeds", numbers.count),
        "settings": Column("Settings", numbers.count),
        "smallest": Column("Smallest visible effect", numbers.compact),
        "finding": text("Finding"),
        "deciding": text("Decides"),
        "note": text("Note"),
    }
    return html_table(f"comparisons-{question}", "All comparisons of this question", table, columns)


def _trials(material: StudyMaterial) -> HtmlTable:
    table: pd.DataFrame = material.tables["study_trials"].copy()
    table["chosen_text"] = ["yes" if chosen is True else "" for chosen in table["chosen"]]
    columns = {
        "label": text("Configuration"),
        "learning_rate": Column("Learning rate", numbers.exact),
        "seed": Column("Seed", str),
        "chosen_text": text("Chosen"),
        "validation_score": Column("Validation score", numbers.decimal),
        "task_score": Column("Test score", numbers.decimal),
        "count": Column("Intruder dimensions", numbers.count),
        "control_count": Column("Of the null control", numbers.count),
        "slots": Column("Vectors looked at", numbers.count),
        "update_relative": Column("‖ΔW‖ / ‖W0‖", numbers.compact),
        "intervention": text("Intervention"),
        "excluded": text("Left out, because"),
    }
    return html_table("study-trials", "Every trial", table, columns)


def _facts(material: StudyMaterial) -> Mapping[str, Mapping[str, str]]:
    record, registration = material.record, material.registration
    study = registration["specification"]["study"]
    widened = {
        f"learning rates added after {one['trials_finished']} trials had finished": "; ".join(
            f"{label} at {', '.join(f'{rate:g}' for rate in rates)}" for label, rates in one["added"].items()
        )
        for one in registration.get("widened", ())
    }
    return {
        "Fixed before anything ran": {
            "SHA-256 of questions, rules and specification": record["sha256"],
            "level of the study": f"{record['level']:g}",
            "level of each interval": f"{record['each_level']:.4g}",
            "held-out task that decides": record["primary"],
            "a model that learnt nothing": record["bar"]["reason"],
            "reliability of the norm (question c)": f"{study['norm_reliability']:g}",
            "margin of the task score (question e)": f"{study['margin']:g}",
            **{f"rule: {name}": rule for name, rule in registration["rules"].items()},
            **widened,
        },
        "Versions": {**{name: str(value) for name, value in record["versions"].items()}, "commit": record["commit"]},
    }
