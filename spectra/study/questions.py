"""The questions of a study and the rules that answer them: they stand in the run folder before anything runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: The question.
        hypothesis: What "supported" says.
        rule: Which figures decide, and how.
    """

    text: str
    hypothesis: str
    rule: str

    def described(self) -> Mapping[str, str]:
        """As the run folder keeps it."""
        return asdict(self)


EXCLUSION = (
    "A trial is used if it finished and its validation score lies above that of a model that learnt nothing: the score "
    "of the untuned base where the base has one, else the share of the commonest class plus two standard errors for "
    "accuracies, and 0 for correlations. Trials that are not used are listed with the reason."
)
VERDICT = (
    "Every comparison has an interval of Student's t over seeds, or over configurations where the units are "
    "configurations, at a level at which all questions together are wrong in at most 1 - level of studies without any "
    "effect. A question is supported if every deciding interval lies on the side of the hypothesis, contradicted if "
    "every one lies on the other side, and not distinguishable otherwise; with fewer than 3 seeds, or too few "
    "settings, there are not enough settings."
)

QUESTIONS: Mapping[str, Question] = {
    "a": Question(
        "Do adapters have more intruder dimensions than full fine-tuning at equal task score, at equal norm of the "
        "update, and beyond the null controls?",
        "An adapter at its chosen learning rate has more intruder dimensions than full fine-tuning at the same "
        "validation score and at the same norm, also after the count of a random update of its own norm and rank is "
        "taken off.",
        "Full fine-tuning is interpolated between neighbouring learning rates of the same seed. Four differences, each "
        "averaged over configurations and then over seeds: count and count beyond the control, at equal score and at "
        "equal norm. All four decide.",
    ),
    "b": Question(
        "How do counts go with rank, alpha, learning rate and steps?",
        "The count rises with the learning rate and with the number of steps.",
        "Slopes of the count per doubling, between trials of one seed that are equal in everything else, averaged over "
        "such groups and then over seeds. Learning rate and steps decide; rank and alpha are reported without a "
        "hypothesis.",
    ),
    "c": Question(
        "Does forgetting go with the count of intruder dimensions beyond the norm of the update, within and across "
        "methods?",
        "At equal norm of the update, settings with more intruder dimensions forget more.",
        "Means over seeds of every setting (configuration and learning rate). Forgetting is regressed on the share of "
        "intruders, log ||delta_W||/||W0|| and its square; the interval is the jackknife over configurations, taken "
        "together with that of the same regression after a correction for a norm of the stated reliability. The slope "
        "across methods decides, unless the slope within configurations lies on the other side.",
    ),
    "d": Question(
        "Does removing intruder dimensions mend more than a shrink of the update to the same norm, at equal task "
        "score?",
        "At equal task score, scaling the intruder dimensions leaves less forgetting than the norm-matched shrink.",
        "The equal-score contrast of every treated trial with its interval over examples, averaged over configurations "
        "and then over seeds; the variance over seeds and that over examples are added.",
    ),
    "e": Question(
        "What does the advice on rank and alpha save?",
        "The advised adapter trains fewer parameters than the best adapter of the sweep and scores no worse than it by "
        "more than the margin.",
        "The advised adapter is trained with the seeds of the study. The difference of trained parameters and the "
        "lower end of the interval of the difference of test scores decide; intruders and forgetting are reported.",
    ),
    "f": Question(
        "Does a training method keep more of what the base knew than plain LoRA does?",
        "At the same validation score, at least one arm forgets less than plain LoRA of its rank and alpha.",
        "Arms are all configurations of other methods than lora. Plain LoRA is interpolated between neighbouring "
        "learning rates of the same seed. Differences of forgetting, arm minus plain LoRA, averaged over seeds: at "
        "equal score, at equal norm, and each at its own validated learning rate; the allowance for errors is shared "
        "by the arms. The differences at equal score decide: supported if that of any arm lies below zero, "
        "contradicted if those of all arms lie above.",
    ),
}
