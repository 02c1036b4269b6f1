"""The sentences of the first screen, from tables whose outcome is known."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fabricated import SWEEP, Recipe, scan_of, sweep_material, sweep_tables, with_nulls, without_intruders

from spectra.records.verdicts import Skipped
from spectra.report.inputs.evidence import LOW_RANK
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import compared, scan_material
from spectra.report.pages import page_of
from spectra.report.tables.statistics import associations
from spectra.report.text.findings import findings
from spectra.report.text.intruder_findings import random_direction_note
from spectra.report.text.warnings import warnings
from spectra.report.tiles import tiles

Rows = dict[str, list[dict[str, Any]]]


def material_of(recipes: Sequence[Recipe] = SWEEP, change: Callable[[Rows], None] = lambda rows: None,
                **options: Any) -> Material:  # fmt: skip
    rows = sweep_tables(recipes, **options)
    change(rows)
    return sweep_material(rows)


def sentences(material: Material) -> list[str]:
    found = findings(material)
    said = [*found.headline, *(one for answers in found.answers.values() for one in answers)]
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in said]


def on(heldout: str, material: Material) -> list[str]:
    """What is said of one held-out task."""
    said = sentences(material)
    return [sentence.removeprefix(f"{heldout}: ") for sentence in said if sentence.startswith(f"{heldout}: ")]


def headline(material: Material) -> list[str]:
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in findings(material).headline]


def entries(material: Material, heading: str) -> list[tuple[str, str, str]]:
    (tile,) = (tile for tile in tiles(material) if tile.heading.startswith(heading))
    return [(entry.name, entry.value, entry.note.replace("\N{NO-BREAK SPACE}", " ")) for entry in tile.entries]


def test_a_count_stands_beside_its_null_control_and_full_fine_tuning() -> None:
    material = material_of(null=12)
    assert headline(material)[0] == (
        "LoRA r=8 α=16 has 31 intruder dimensions in 36 matrices, where an update of equal norm and rank without "
        "training has 12; full fine-tuning has 0 (control: 0)."
    )
    assert entries(material, "Intruder") == [
        ("LoRA r=8 α=16", "31", "null control 12"),
        ("full", "0", "null control 0"),
    ]
    assert (
        "Of 360 leading vectors (k = 10 in each of 36 matrices, ε = 0.5): full: 0 (control: 0); LoRA r=1 α=2: 3 "
        "(control: 12); LoRA r=8 α=16: 31 (control: 12); LoRA r=64 α=128: 6 (control: 12); LoRA r=64 α=8: 12 "
        "(control: 12)."
    ) in sentences(material)


@pytest.mark.parametrize(
    ("recipes", "null", "seeds", "verdict"),
    [
        (SWEEP[:3], 2, (0, 1, 2), "Every low-rank configuration has more than the null control and, whatever the seed, "
         "than full fine-tuning: the paper's contrast shows here."),
        (SWEEP[:3], 5, (0, 1), "LoRA r=8 α=16 has more than the null control and, whatever the seed, than full "
         "fine-tuning: the paper's contrast shows there only."),
        (SWEEP[:3], 40, (0, 1), "Every low-rank configuration has more than full fine-tuning, but none beyond its null "
         "control: the paper's contrast does not show here."),
        (SWEEP[:3], 2, (0,), "Every low-rank configuration has more than the null control and than full fine-tuning, "
         "but a single seed cannot tell that from the luck of training: no verdict on the paper's contrast."),
        (without_intruders(), 0, (0, 1), "No low-rank configuration has more than full fine-tuning: the paper's "
         "contrast does not show here."),
    ],
    ids=["contrast", "some", "control larger", "one seed", "none"],
)  # fmt: skip
def test_a_contrast_needs_more_than_the_control_and_than_the_spread_of_seeds(
    recipes: Sequence[Recipe], null: int, seeds: Sequence[int], verdict: str
) -> None:
    assert headline(material_of(recipes, null=null, seeds=seeds))[1] == verdict


def test_a_contrast_within_the_spread_of_seeds_is_none() -> None:
    def luck(rows: Rows) -> None:
        for row in rows["trials"]:
            row["count"] += 5 * row["seed"] if row["method"] == "full" else 0

    recipes = [SWEEP[0], SWEEP[1]]
    assert headline(material_of(recipes, luck, null=0, seeds=(0, 1)))[1] == (
        "Every low-rank configuration has more than the null control, but not beyond the spread of seeds of full "
        "fine-tuning: the paper's contrast does not show here."
    ).replace("Every", "The one")


def test_without_controls_there_is_no_verdict() -> None:
    said = headline(material_of(SWEEP[:2], lambda rows: rows["controls"].clear(), seeds=(0, 1)))
    assert said[0].startswith("LoRA r=1 α=2 has 3 intruder dimensions in 36 matrices, without a null control to hold")
    assert said[1].endswith("without null controls this is no verdict on the paper's contrast.")


def test_a_control_that_misses_a_matrix_is_none() -> None:
    def lost(rows: Rows) -> None:
        name = rows["controls"][0]["name"]
        rows["controls"] = [row for row in rows["controls"] if row["name"] != name]

    assert ("LoRA r=1 α=2", "3", "no null control") in entries(material_of(SWEEP[:2], lost), "Intruder")


def test_of_trials_at_chance_nothing_else_is_said() -> None:
    def at_chance(rows: Rows) -> None:
        rows["row_account"] = [
            {"trial": row["trial"], "task": "movie-reviews", "role": "task", "split": "train", "classes": 2}
            for row in rows["trials"]
        ]
        for row in rows["trials"]:
            if row["label"] != "LoRA r=8 α=16":
                row["task_score"] = 0.51 if row["chosen"] else None

    material = material_of(SWEEP[:3], at_chance)
    said = sentences(material)
    assert said[0] == (
        "2 of 3 chosen trials did not beat chance, and nothing else is said of them: full (0.510 against 0.500), "
        "LoRA r=1 α=2 (0.510 against 0.500)."
    )
    assert said[0] in warnings(material)
    assert not any("full" in sentence or "r=1" in sentence for sentence in said[1:] if "Over " not in sentence)
    assert entries(material, "Task score")[0][1] == "0.836"

    def all_at_chance(rows: Rows) -> None:
        at_chance(rows)
        for row in rows["trials"]:
            row["task_score"] = 0.51 if row["chosen"] else None

    material = material_of(SWEEP[:3], all_at_chance)
    assert len(sentences(material)) == 1 and tiles(material) == ()


def test_a_score_below_the_untouched_base_is_not_spoken_of() -> None:
    def worse_than_the_base(rows: Rows) -> None:
        for row in rows["trials"]:
            row |= {"task_metric": "negative loss", "base_task_score": 0.9}

    assert sentences(material_of(SWEEP[:2], worse_than_the_base)) == [
        "2 of 2 chosen trials did not beat the untouched base, and nothing else is said of them: full (0.837 against "
        "0.900), LoRA r=1 α=2 (0.801 against 0.900)."
    ]


def test_a_sweep_without_intruders_says_so() -> None:
    said = sentences(material_of(without_intruders()))
    assert said[0] == "No trial has an intruder dimension: 0 of 360 leading vectors in each of 15 trials."
    assert any("Forgetting happened without a single intruder dimension." in sentence for sentence in said)


def test_intruders_at_rejected_learning_rates_only_are_told_apart() -> None:
    recipes = [Recipe(r.label, r.method, r.rank, (0, 0, r.counts[2]), r.forgetting, r.score) for r in SWEEP]
    assert sentences(material_of(recipes))[0] == (
        "No chosen trial has an intruder dimension; they appear only at learning rates that the validation score did "
        "not choose (LoRA r=8 α=16 at 3e−3: 44)."
    )


def test_several_seeds_are_given_as_mean_and_range() -> None:
    def more_in_the_second_seed(rows: Rows) -> None:
        for row in rows["trials"]:
            row["count"] += row["seed"]

    material = material_of(SWEEP[:3], more_in_the_second_seed, seeds=(0, 1), null=0)
    assert headline(material)[0] == (
        "LoRA r=8 α=16 has 31.5 (31 to 32) intruder dimensions in 36 matrices, where an update of equal norm and rank "
        "without training has 0; full fine-tuning has 0.5 (0 to 1) (control: 0) (mean and range over 2 seeds)."
    )
    assert entries(material, "Intruder")[0] == ("LoRA r=8 α=16", "31.5", "31 to 32, null control 0")


def test_headline_tiles_and_first_figure_speak_of_the_same_trials() -> None:
    material = material_of()
    page = page_of(material)
    assert page.first is not None
    table = page.first.figures[0].table.set_index("label")
    name, score, _ = entries(material, "Task score")[0]
    assert name in headline(material)[0] and float(score) == round(table.loc[name, "task_score"], 3)
    assert entries(material, "Forgetting")[0][1] == f"{table.loc[name, 'forgetting']:+.3f}"
    assert int(entries(material, "Intruder")[0][1]) == table.loc[name, "count"]
    assert len(page.findings) <= 3


def test_task_scores_are_compared_by_their_means_over_seeds() -> None:
    recipes = [recipe for recipe in SWEEP if recipe.score != 0.838]
    (sentence,) = (one for one in sentences(material_of(recipes, seeds=(0, 1))) if "probe: Where task scores" in one)
    assert sentence == (
        "BBC topics, probe: Where task scores are closest (LoRA r=8 α=16 0.837, full 0.837 accuracy, mean and range "
        "over 2 seeds), LoRA r=8 α=16 forgets 0.028 error rate more: +0.052 error rate [+0.052, +0.053] against +0.025 "
        "[+0.024, +0.025]; the two ranges over seeds do not overlap."
    )


def test_forgetting_is_given_with_intervals_and_examples() -> None:
    said = on("BBC topics, probe", material_of())
    assert (
        "5 of 5 trials forgot, their 95 % interval above zero (error rate, 2,000 examples): from +0.015 error rate "
        "[+0.006, +0.024] (LoRA r=64 α=8) to +0.052 error rate [+0.043, +0.061] (LoRA r=8 α=16)."
    ) in said
    assert (
        "Forgetting happened without intruder dimensions in 1 of these 5 trials, at most +0.024 error rate "
        "[+0.015, +0.033] (full)."
    ) in said


def test_no_forgetting_beyond_the_interval_is_said_plainly() -> None:
    recipes = [Recipe(r.label, r.method, r.rank, r.counts, (0.001, 0.002, 0.003), r.score) for r in SWEEP]
    assert (
        "No trial forgot beyond its 95 % interval (error rate, 2,000 examples); the most is +0.002 error rate "
        "[−0.007, +0.011] (full)."
    ) in on("BBC topics, probe", material_of(recipes))


def test_lora_is_compared_with_full_where_the_task_scores_are_closest() -> None:
    said = on("BBC topics, probe", material_of())
    assert (
        "Where task scores are closest (LoRA r=8 α=16 0.836, full 0.837 accuracy), LoRA r=8 α=16 forgets 0.028 error "
        "rate more: +0.052 error rate [+0.043, +0.061] against +0.024 [+0.015, +0.033]; the two intervals do not "
        "overlap."
    ) in said


def test_a_coefficient_never_comes_without_its_interval_or_the_reason() -> None:
    material = material_of()
    said = on("BBC topics, probe", material)
    forgetting = material.tables["forgetting"]
    row, _, norm, *_, given_norm, _, given_count = associations(material.done, forgetting)[:7]
    shown = {one: f"{one.rho:+.2f} [{one.low:+.2f}, {one.high:+.2f}]".replace("-", "−") for one in
             (row, norm, given_norm, given_count)}  # fmt: skip
    assert (
        f"Over 15 trials, the forgetting has Spearman's ρ {shown[row]} with the intruder count, and {shown[norm]} "
        "with the update's norm."
    ) in said
    (held,) = (one for one in said if one.startswith(f"With the norm held fixed, the count keeps {shown[given_norm]}"))
    assert f"the norm keeps {shown[given_count]}" in held
    spanning = sum(one.verdict == "interval spans zero" for one in (given_norm, given_count))
    assert held.count("(the interval spans zero)") == spanning
    said = sentences(material_of(without_intruders()))
    assert any("ρ undefined (intruder count never varies) with the intruder count" in one for one in said)


def test_few_settings_have_no_coefficient_and_no_table_of_them() -> None:
    material = material_of(SWEEP[:2])
    assert any(
        "With 6 settings there is no telling what the forgetting goes with" in one for one in sentences(material)
    )
    (section,) = (section for section in page_of(material).sections if section.identity == "association")
    assert section.tables == ()


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
    assert said[0] == (
        "9 intruder dimensions among 360 leading vectors of 36 matrices, without a null control to hold them against "
        "(k = 10 in each matrix, ε = 0.5)."
    )
    assert said[1].startswith("They sit in 7 of 36 matrices; ")
    assert said[1].endswith("and hold 2.6 % of the leading vectors' energy, averaged over all matrices.")
    norm = scan_material(scan_of(3, intruders=9)).tables["trials"]["update_relative"].iloc[0]
    assert f"a relative norm ‖ΔW‖ / ‖W0‖ of {norm:.4f} over all matrices" in said[2]


def test_the_null_control_of_a_scan_stands_beside_its_count() -> None:
    material = scan_material(with_nulls(scan_of(3, intruders=9), LOW_RANK, 0.25))
    assert ", where an update of equal norm and rank without training has 9 (k = 10" in sentences(material)[0]
    assert entries(material, "Intruder") == [("", "9", "null control 9")]


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
        "The count is saturated (at least 90.0 % of all leading vectors) in 2 of 3 trials: LoRA r=1 α=2 (350), "
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
    assert sentences(material)[0] == (
        "second has 7 intruder dimensions in 24 matrices, without a null control to hold them against; first has 7 in "
        "36 matrices."
    )
