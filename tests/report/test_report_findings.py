"""The sentences of the first screen, from tables whose outcome is known."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fabricated import SWEEP, Recipe, scan_of, sweep_material, sweep_tables, without_intruders

from spectra.records.verdicts import Skipped
from spectra.report.inputs.sources import Material, compared, scan_material
from spectra.report.tables.statistics import associations
from spectra.report.text.findings import findings
from spectra.report.text.intruder_findings import random_direction_note
from spectra.report.text.warnings import warnings

Rows = dict[str, list[dict[str, Any]]]


def material_of(recipes: Sequence[Recipe] = SWEEP, change: Callable[[Rows], None] = lambda rows: None,
                **options: Any) -> Material:  # fmt: skip
    rows = sweep_tables(recipes, **options)
    change(rows)
    return sweep_material(rows)


def sentences(material: Material) -> list[str]:
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for topic in findings(material) for sentence in topic.sentences]


def test_the_headline_sets_the_most_intruders_beside_full_fine_tuning() -> None:
    said = sentences(material_of())
    assert said[0] == "LoRA r=8 α=16 has 31 intruder dimensions in 36 matrices; full fine-tuning has 0."
    assert said[1] == (
        "Of 360 leading vectors (k = 10 in each of 36 matrices, ε = 0.5): full: 0; LoRA r=1 α=2: 3; "
        "LoRA r=8 α=16: 31; LoRA r=64 α=128: 6; LoRA r=64 α=8: 12."
    )
    assert (
        said[2] == "Every low-rank configuration has more than full fine-tuning (0): the paper's contrast shows here."
    )


def test_a_sweep_without_intruders_says_that_the_contrast_does_not_show() -> None:
    said = sentences(material_of(without_intruders()))
    assert said[0] == (
        "No trial has an intruder dimension: 0 of 360 leading vectors in each of 15 trials "
        "(k = 10 in each of 36 matrices, ε = 0.5)."
    )
    assert (
        said[1] == "The contrast that the paper reports between LoRA and full fine-tuning does not show at this scale."
    )
    assert "Forgetting happened without a single intruder dimension." in said


def test_intruders_at_rejected_learning_rates_only_are_told_apart() -> None:
    recipes = [Recipe(r.label, r.method, r.rank, (0, 0, r.counts[2]), r.forgetting, r.score) for r in SWEEP]
    said = sentences(material_of(recipes))
    assert said[0].startswith("None of the 5 chosen trials has an intruder dimension")
    assert said[0].endswith("LoRA r=8 α=16 at 3e−3 has 44.")
    assert said[1].endswith("does not show at this scale.")


def test_full_fine_tuning_with_more_intruders_is_reported_as_such() -> None:
    recipes = [Recipe("full", "full", None, (0, 9, 9), (0.0, 0.1, 0.2), 0.83), SWEEP[1]]
    said = sentences(material_of(recipes))
    assert said[0] == "full has 9 intruder dimensions in 36 matrices; LoRA r=1 α=2 has 3."
    assert said[2] == (
        "No low-rank configuration has more than full fine-tuning (9): the paper's contrast does not show here."
    )


def test_several_seeds_are_given_as_mean_and_range() -> None:
    def more_in_the_second_seed(rows: Rows) -> None:
        for row in rows["trials"]:
            row["count"] += row["seed"]

    said = sentences(material_of(change=more_in_the_second_seed, seeds=(0, 1)))
    assert said[0] == (
        "LoRA r=8 α=16 has 31.5 (31 to 32) intruder dimensions in 36 matrices; full fine-tuning has 0.5 (0 to 1), mean "
        "and range over 2 seeds."
    )
    assert said[1].startswith("Of 360 leading vectors (k = 10 in each of 36 matrices, ε = 0.5), mean and range over 2 ")


def test_task_scores_are_compared_by_their_means_over_seeds() -> None:
    recipes = [recipe for recipe in SWEEP if recipe.score != 0.838]
    said = sentences(material_of(recipes, seeds=(0, 1)))
    (sentence,) = (one for one in said[:7] if one.startswith("Where task scores are closest"))
    assert sentence == (
        "Where task scores are closest (LoRA r=8 α=16 0.837, full 0.837 accuracy, mean and range over 2 seeds), LoRA "
        "r=8 α=16 forgets 0.028 error rate more: +0.052 error rate [+0.052, +0.053] against +0.025 [+0.024, +0.025]; "
        "the two ranges over seeds do not overlap."
    )


def test_only_configurations_with_more_intruders_than_full_are_named() -> None:
    recipes = [Recipe("full", "full", None, (0, 4, 9), (0.0, 0.1, 0.2), 0.83), *SWEEP[1:3]]
    assert sentences(material_of(recipes))[2] == (
        "1 of 2 low-rank configurations has more than full fine-tuning (4): LoRA r=8 α=16. The paper's contrast shows "
        "there only."
    )


def test_forgetting_is_given_with_intervals_and_examples() -> None:
    said = sentences(material_of())
    assert said[3] == (
        "5 of 5 trials forgot, their 95 % interval above zero (error rate, 2,000 examples): from +0.015 error rate "
        "[+0.006, +0.024] (LoRA r=64 α=8) to +0.052 error rate [+0.043, +0.061] (LoRA r=8 α=16)."
    )
    assert said[4] == (
        "Forgetting happened without intruder dimensions in 1 of these 5 trials, at most +0.024 error rate "
        "[+0.015, +0.033] (full)."
    )


def test_no_forgetting_beyond_the_interval_is_said_plainly() -> None:
    recipes = [Recipe(r.label, r.method, r.rank, r.counts, (0.001, 0.002, 0.003), r.score) for r in SWEEP]
    said = sentences(material_of(recipes))
    assert said[3] == (
        "No trial forgot beyond its 95 % interval (error rate, 2,000 examples); the most is +0.002 error rate "
        "[−0.007, +0.011] (full)."
    )


def test_lora_is_compared_with_full_where_the_task_scores_are_closest() -> None:
    said = sentences(material_of())
    assert said[5] == (
        "Where task scores are closest (LoRA r=8 α=16 0.836, full 0.837 accuracy), LoRA r=8 α=16 forgets 0.028 error "
        "rate more: +0.052 error rate [+0.043, +0.061] against +0.024 [+0.015, +0.033]; the two intervals do not "
        "overlap."
    )


def test_a_coefficient_never_comes_without_its_interval_or_the_reason() -> None:
    material = material_of()
    said = sentences(material)
    forgetting = material.tables["forgetting"]
    row, _, norm, *_, given_norm, _, given_count = associations(material.done, forgetting)[:7]
    shown = {one: f"{one.rho:+.2f} [{one.low:+.2f}, {one.high:+.2f}]".replace("-", "−") for one in
             (row, norm, given_norm, given_count)}  # fmt: skip
    assert said[6] == (
        f"Over 15 trials, the forgetting has Spearman's ρ {shown[row]} with the intruder count, and {shown[norm]} "
        "with the update's norm."
    )
    assert said[7].startswith(f"With the norm held fixed, the count keeps {shown[given_norm]}")
    assert f"the norm keeps {shown[given_count]}" in said[7]
    spanning = sum(one.verdict == "interval spans zero" for one in (given_norm, given_count))
    assert said[7].count("(the interval spans zero)") == spanning
    said = sentences(material_of(without_intruders()))
    assert "ρ undefined (intruder count never varies) with the intruder count" in said[5]


@pytest.mark.parametrize("recipes", [SWEEP, without_intruders()])
def test_nothing_is_called_significant(recipes: Sequence[Recipe]) -> None:
    material = material_of(recipes)
    assert not any("significan" in sentence for sentence in [*sentences(material), *warnings(material)])


def test_a_sweep_without_a_finished_trial_has_one_sentence() -> None:
    def nothing_done(rows: Rows) -> None:
        rows["trials"] = [{**row, "count": None, "chosen": None, "status": "failed", "error": "out of memory"}
                          for row in rows["trials"]]  # fmt: skip
        for name in ("forgetting", "matrices", "vectors", "similarity", "history"):
            rows[name] = []

    material = material_of(change=nothing_done)
    assert sentences(material) == ["No trial has finished, so there is nothing to compare."]
    assert warnings(material)[0].startswith("15 of 15 trials failed: full (learning rate 2e−5, seed 0), ")
    assert warnings(material)[0].endswith("and 10 more. First reason: out of memory")


def test_a_scan_tells_count_place_and_size() -> None:
    said = sentences(scan_material(scan_of(3, intruders=9)))
    assert said[0].startswith("9 intruder dimensions in 36 matrices: 9 of 360 leading vectors (2.5 %; k = 10")
    assert said[1].startswith("They sit in 7 of 36 matrices and hold 2.6 % of the leading vectors")
    assert said[2].startswith("The role with the most is ")
    assert said[3].startswith("The update is between 1.4 % and 4.0 % of the pre-trained matrix's Frobenius norm")


def test_a_scan_without_intruders_names_its_least_similar_vector() -> None:
    scan = scan_of(4, intruders=0)
    said = sentences(scan_material(scan))
    least = min((vector.max_cosine, vector.index, matrix.name) for matrix in scan.matrices for vector in matrix.vectors)
    assert said[0] == (
        "No intruder dimension: each of the 360 leading vectors in 36 matrices resembles some pre-trained vector "
        "(k = 10 in each matrix, ε = 0.5)."
    )
    assert said[1] == (
        f"The least similar is vector {least[1]} of {least[2]}, whose largest |cosine| is {least[0]:.3f}."
    )


def test_bounds_are_given_where_the_cosine_is_not_known() -> None:
    said = sentences(scan_material(scan_of(4, intruders=0, bounds=True)))
    assert "whose largest |cosine| is between " in said[1]


def test_a_scan_of_nothing_says_so() -> None:
    scan = scan_of(4, layers=0, intruders=0)
    assert sentences(scan_material(scan)) == ["No matrix of checkpoint was compared, so nothing can be said about it."]


def test_the_random_direction_note_gives_the_scale_of_epsilon() -> None:
    assert random_direction_note(scan_material(scan_of(4, width=384))) == (
        "A random direction is expected to reach a largest |cosine| of 0.08 to 0.16 here (so every random direction "
        "would count at ε = 0.5)."
    )


def test_a_plain_sweep_warns_of_its_single_seed_only() -> None:
    def well_conditioned(rows: Rows) -> None:
        for row in rows["vectors"]:
            row["ill_conditioned"] = False

    material = material_of(change=well_conditioned)
    assert warnings(material) == [
        "Every configuration was trained with a single seed: the intervals cover the choice of test examples, not the "
        "luck of training."
    ]
    assert warnings(material_of(change=well_conditioned, seeds=(0, 1))) == []


def test_few_examples_are_warned_of() -> None:
    said = warnings(material_of(examples=400))
    assert "Only 400 examples of BBC topics, probe: a small difference does not show." in said
    # sqrt(0.837 * 0.163 / 400) = 0.0185
    assert (
        "The test split of movie-reviews has 400 examples only: a standard error of about 1.8 points of accuracy."
        in said
    )


def test_ill_conditioned_vectors_are_counted() -> None:
    material = material_of()
    vectors = material.tables["vectors"]
    ill = vectors[vectors["ill_conditioned"]]
    (said,) = (sentence for sentence in warnings(material) if "ill-conditioned" in sentence)
    assert said.startswith(f"{len(ill)} of 5,400 leading vectors are ill-conditioned")
    assert said.endswith(f"; {int(ill['is_intruder'].sum())} of them count as intruders.")


def test_a_chosen_learning_rate_at_the_end_of_its_grid_is_warned_of() -> None:
    def highest_is_chosen(rows: Rows) -> None:
        for row in rows["trials"]:
            row["chosen"] = row["learning_rate"] == 3e-3 or (row["label"] == "full" and row["learning_rate"] == 5e-5)

    said = warnings(material_of(change=highest_is_chosen))
    assert said[-1].startswith("The chosen learning rate is at the end of its grid for LoRA r=1 α=2 (highest, 3e−3), ")
    assert "full" not in said[-1]


def test_saturated_counts_are_warned_of() -> None:
    recipes = [Recipe("LoRA r=1 α=2", "lora", 1, (0, 350, 360), (0.1, 0.2, 0.3), 0.8)]
    said = warnings(material_of(recipes))
    assert said[0].startswith(
        "The count is saturated (at least 90% of all leading vectors) in 2 of 3 trials: LoRA r=1 α=2 (350), "
    )


def test_skipped_matrices_and_the_scans_own_warnings_are_passed_on() -> None:
    from dataclasses import replace

    scan = replace(scan_of(1, skipped=[Skipped("embed", "an embedding")]), warnings=("W0 is dequantised.",))
    said = warnings(scan_material(scan))
    assert said[0] == "1 matrix was not compared: embed (an embedding)."
    assert said[-1] == "W0 is dequantised."


def test_scans_that_asked_different_questions_are_not_compared_silently() -> None:
    first, second = scan_material(scan_of(1, layers=6)), scan_material(scan_of(2, layers=4))
    material = compared([first, second], ["first", "second"])
    assert warnings(material)[0] == (
        "Counts are not directly comparable: the scans differ in the number of matrices (24, 36)."
    )
    assert sentences(material)[0] == "first has 7 intruder dimensions in 36 matrices; second has 7 in 24 matrices."
