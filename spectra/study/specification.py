"""What a study is: a sweep, and the questions that are put to it, fixed before anything runs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from spectra.interventions import CONTROLS
from spectra.study.questions import QUESTIONS
from spectra.sweep.spec.specification import Seeds, Specification
from spectra.sweep.spec.values import one_or_many
from spectra.training.settings import Count

QuestionName = Literal["a", "b", "c", "d", "e", "f"]
Lambda = Annotated[float, Field(ge=0, le=2)]
LETTERS: tuple[QuestionName, ...] = ("a", "b", "c", "d", "e")  # asked unless others are named


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InterventionSettings(_Strict):
    """What is done to the trained checkpoints; the meaning of each field is that of `spectra.interventions.experiment`.

    Attributes:
        trials: "chosen" treats every trial at its chosen learning rate, "all" every trial.
        lambdas: Factors on the treated singular values; 1 is always added.
        controls: What the intruder arm is held against.
        select: Which intruders are treated.
        share: Of the intruders' energy, for the selection "energy".
        test_examples: Rows of the task's test split that every point is scored on, from the front; None takes as many
            as the sweep does.
        seed: Of the random controls and of the bootstrap over examples.
        resamples: Of that bootstrap.
    """

    trials: Literal["chosen", "all"] = "chosen"
    lambdas: Annotated[list[Lambda], BeforeValidator(one_or_many), Field(min_length=1)] = [0.0, 0.25, 0.5, 0.75]
    controls: Annotated[list[str], BeforeValidator(one_or_many)] = list(CONTROLS)
    select: Literal["top", "all", "energy"] = "top"
    share: Annotated[float, Field(gt=0, le=1)] = 0.9
    test_examples: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    resamples: Annotated[int, Field(ge=200)] = 2000

    @model_validator(mode="after")
    def _names_controls(self) -> "InterventionSettings":
        if unknown := [name for name in self.controls if name not in CONTROLS]:
            raise ValueError(f"control '{unknown[0]}' is unknown; choose among {', '.join(CONTROLS)}")
        return self


class StudySettings(_Strict):
    """The questions of a study and the rules of its verdicts.

    Attributes:
        questions: Letters of `questions.QUESTIONS`; the allowance for errors is divided by their number.
        primary: The held-out task whose forgetting decides; None takes the first one.
        level: Probability that a study in which no effect exists has no false verdict at all.
        interventions: Of question d.
        norm_reliability: Share of the variance of log ||delta_W||/||W0|| that counts as true size in question c;
            1 takes the norm for an exact measure of the size of an update.
        margin: Largest loss of task score, in its own units, that counts as none in question e.
        keep_energy: Share of each update's energy that advised ranks keep, in question e.
    """

    questions: Annotated[list[QuestionName], BeforeValidator(one_or_many), Field(min_length=1)] = list(LETTERS)
    primary: str | None = None
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    interventions: InterventionSettings = InterventionSettings()
    norm_reliability: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    margin: Annotated[float, Field(ge=0)] = 0.02
    keep_energy: Annotated[float, Field(gt=0, le=1)] = 0.9

    @model_validator(mode="after")
    def _can_answer(self) -> "StudySettings":
        if len(set(self.questions)) < len(self.questions):
            raise ValueError("a question is asked twice; name each letter once")
        if "d" in self.questions and "shrink" not in self.interventions.controls:
            raise ValueError("question d holds removal against the control shrink; add it to interventions.controls")
        if "d" in self.questions and not any(factor < 1 for factor in self.interventions.lambdas):
            raise ValueError("question d removes intruders; add a lambda below 1, such as 0")
        return self

    @property
    def each_level(self) -> float:
        """Level of every interval: the allowance 1 - level is shared by the questions (Bonferroni)."""
        return 1 - (1 - self.level) / len(self.questions)

    def described(self) -> dict[str, Any]:
        """The questions and rules in words, as the run folder keeps them."""
        return {letter: dict(QUESTIONS[letter].described()) for letter in sorted(self.questions)}


class StudySpecification(Specification, frozen=True):
    """A sweep with the questions that are put to it."""

    seeds: Seeds = [0, 1, 2, 3, 4]  # noqa: RUF012 - pydantic copies defaults
    study: StudySettings = StudySettings()

    @model_validator(mode="before")
    @classmethod
    def _keeps_weights(cls, values: Any) -> Any:
        """Interventions edit the trained weights, so all are kept unless the specification says otherwise."""
        return {"keep": "all", **values} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _can_be_studied(self) -> "StudySpecification":
        if self.tasks or self.checkpoints or not self.methods:
            raise ValueError("a study trains methods on one task; give task and methods, without tasks or checkpoints")
        if not self.heldout:
            raise ValueError("a study measures what is forgotten, and heldout is empty; add a held-out task")
        if self.keep == "none":
            raise ValueError("keep is none, and interventions need the trained weights; give keep: all")
        if not self.controls:
            raise ValueError("controls is false, and a count says nothing without its null control; remove it")
        return self

    @property
    def sweep(self) -> Specification:
        """The sweep alone."""
        given = {name: value for name, value in self.given().items() if name != "study"}
        return Specification.model_validate(given)

    def given(self) -> dict[str, Any]:
        """What was stated, as JSON holds it, with the defaults that are a study's own.

        A held-out task is known by what was stated of it, so that a default must not look like a statement.
        """
        own = self.model_dump(mode="json", include={"seeds", "study"})
        return {**self.model_dump(mode="json", exclude_unset=True), **own}
