"""Studies: a sweep, interventions on what it trained, and answers to questions that were fixed before it ran."""

from spectra.study.answers.all import Answers, answers_of
from spectra.study.comparison import Answer, Comparison
from spectra.study.progress import Progress
from spectra.study.specification import StudySettings, StudySpecification
from spectra.study.study import Study, answer_study, read_study, run_study, study_presets
from spectra.study.tables import StudyTables, collect

__all__ = [
    "Answer",
    "Answers",
    "Comparison",
    "Progress",
    "Study",
    "StudySettings",
    "StudySpecification",
    "StudyTables",
    "answer_study",
    "answers_of",
    "collect",
    "read_study",
    "run_study",
    "study_presets",
]
