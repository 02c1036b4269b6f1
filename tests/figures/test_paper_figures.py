"""The figures for papers: what they draw is what they were given, labelled, at print size, in vectors."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from spectra.errors import DestinationError, RunError
from spectra.figures import (
    count_against_epsilon,
    forgetting_scatter,
    intervention_curve,
    layer_map,
    similarity_matrix,
    spectrum,
    training_trajectory,
    write_figures,
)
from spectra.figures.export import file_names
from spectra.records.looks import COLOURS, FULL_COLOUR
from spectra.runs import Run

VECTORS = pd.DataFrame(
    {
        "label": ["full", "full", "LoRA r=1", "LoRA r=1"],
        "method": ["full", "full", "lora", "lora"],
        "lower": [0.9, 0.8, 0.3, 0.6],
        "upper": [0.9, 0.8, 0.4, 0.6],
    }
)
MATRICES = pd.DataFrame(
    {
        "layer": pd.array([0, 0, 1, 1, None], dtype="Int64"),
        "role": ["query", "key", "query", "key", "embed"],
        "count": [0, 1, 2, 3, 9],
    }
)
TRIALS = pd.DataFrame(
    {
        "label": ["full", "LoRA r=1", "LoRA r=1"],
        "method": ["full", "lora", "lora"],
        "count": [0, 3, 16],
        "forgetting": [0.02, 0.05, 0.1],
        "low": [0.01, 0.04, 0.08],
        "high": [0.03, 0.07, 0.12],
    }
)
CURVE = pd.DataFrame(
    {"factor": [1.0, 0.5, 0.7], "task_score": [0.84, 0.83, 0.835], "forgetting": [0.1, 0.05, 0.07], "arm": "intruder"}
)
TRAJECTORY = pd.DataFrame({"step": [20, 10, 30], "count": [2, 0, 5], "update_relative": [0.2, 0.1, 0.25]})

FIGURES: dict[str, Callable[[], Figure]] = {
    "similarity": lambda: similarity_matrix(np.eye(4)),
    "layer map": lambda: layer_map(MATRICES),
    "epsilon": lambda: count_against_epsilon(VECTORS, shapes=[(384, 384)]),
    "spectrum": lambda: spectrum({"W0": np.array([3.0, 2.0, 1.0]), "delta_W": np.array([1.0, 0.0, 0.0])}),
    "intervention": lambda: intervention_curve(CURVE),
    "forgetting": lambda: forgetting_scatter(TRIALS),
    "trajectory": lambda: training_trajectory(TRAJECTORY),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_axis_is_labelled(draw: Callable[[], Figure]) -> None:
    figure = draw()
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert figure.axes[0].get_xlabel() or figure.axes[1].get_xlabel()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_text_has_print_size_and_nothing_is_cut(draw: Callable[[], Figure]) -> None:
    figure = draw()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    # Constrained layout leaves a pad of 0.04 inches; the rest is rounding of text extents.
    assert box.x0 >= -0.02 and box.y0 >= -0.02
    assert box.x1 <= width + 0.02 and box.y1 <= height + 0.02
    sizes = [text.get_fontsize() for axes in figure.axes for text in (*axes.get_xticklabels(), axes.yaxis.label)]
    assert all(6.5 <= size <= 9 for size in sizes)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_text_stays_text_in_vector_files(draw: Callable[[], Figure], tmp_path: Path) -> None:
    from spectra.figures.style import print_style

    with print_style():
        draw().savefig(tmp_path / "figure.svg")
    assert "<text" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_a_figure_leaves_the_callers_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    for draw in FIGURES.values():
        draw()
    assert dict(mpl.rcParams) == before


def test_the_similarity_matrix_is_drawn_entry_by_entry() -> None:
    cosine = np.random.default_rng(0).uniform(size=(5, 7))
    (image,) = similarity_matrix(cosine).axes[0].get_images()
    assert np.array_equal(image.get_array(), cosine)
    assert image.get_clim() == (0, 1)


def test_the_layer_map_has_a_row_per_role_and_leaves_out_what_is_outside_the_blocks() -> None:
    axes = layer_map(MATRICES).axes[0]
    (image,) = axes.get_images()
    assert image.get_array().tolist() == [[0, 2], [1, 3]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["query", "key"]


def test_the_epsilon_curve_is_the_count() -> None:
    axes = count_against_epsilon(VECTORS, epsilons=[0.2, 0.5, 0.7, 1.0]).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines["full"] == [0, 0, 0, 2]
    assert lines["LoRA r=1"] == [0, 1, 2, 2]


def test_the_random_direction_line_is_drawn_where_it_is_expected() -> None:
    axes = count_against_epsilon(VECTORS, shapes=[(768, 768)]).axes[0]
    (line,) = (line for line in axes.get_lines() if line.get_label() == "random direction")
    assert line.get_xdata()[0] == pytest.approx(0.120, abs=0.002)


def test_zero_singular_values_have_no_place_on_a_logarithmic_axis() -> None:
    axes = FIGURES["spectrum"]().axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines == {"W0 (pre-trained)": [3, 2, 1], "ΔW (update)": [1]}


def test_the_intervention_curve_runs_along_the_factor() -> None:
    above, below = intervention_curve(CURVE).axes
    assert list(above.get_lines()[0].get_xdata()) == [0.5, 0.7, 1.0]
    assert list(below.get_lines()[0].get_ydata()) == [0.05, 0.07, 0.1]


def test_the_trajectory_runs_along_the_steps_from_zero() -> None:
    above, below = training_trajectory(TRAJECTORY).axes
    assert list(above.get_lines()[0].get_xdata()) == [10, 20, 30]
    assert list(above.get_lines()[0].get_ydata()) == [0, 2, 5]
    assert list(below.get_lines()[0].get_ydata()) == [0.1, 0.2, 0.25]
    assert above.get_ylim()[0] == below.get_ylim()[0] == 0


def test_full_fine_tuning_has_its_own_colour() -> None:
    handles, labels = forgetting_scatter(TRIALS).axes[0].get_legend_handles_labels()
    colours = {label: handle.lines[0].get_color() for handle, label in zip(handles, labels, strict=True)}
    assert colours == {"full": FULL_COLOUR, "LoRA r=1": COLOURS[0]}


def test_no_two_labels_share_colour_and_marker() -> None:
    from spectra.figures.style import looks

    look = looks([f"LoRA r={rank}" for rank in range(7)] + ["full"], ["full"])
    assert len({(style["color"], style["marker"]) for style in look.values()}) == 8


def run_of(folder: Path, trials: list[dict[str, object]]) -> Path:
    run = Run.create(folder, {"specification": {}}, same={})
    ids = [str(trial["trial"]) for trial in trials if trial.get("count") is not None]
    shape = {"layer": 0, "role": "query", "d_out": 8, "d_in": 8, "count": 1}
    run.write_table("trials", trials)
    run.write_table("matrices", [{"trial": one, "name": "m", **shape} for one in ids])
    run.write_table("vectors", [{"trial": one, "name": "m", "index": 0, "lower": 0.3, "upper": 0.3} for one in ids])
    run.write_table("similarity", [{"trial": one, "name": "m", "i": 0, "j": 0, "cosine": 0.3} for one in ids])
    amounts = {"forgetting": 0.1, "low": 0.0, "high": 0.2, "unit": "nats"}
    run.write_table("forgetting", [{"trial": one, "heldout": "a/b <c>", **amounts} for one in ids])
    run.write_table("history", [])
    return folder


TRIAL = {"method": "lora", "chosen": True, "epsilon": 0.5, "count": 1, "task_score": 0.8, "update_relative": 0.1}


def test_every_figure_of_a_run_is_written_under_a_plain_name(tmp_path: Path) -> None:
    folder = run_of(
        tmp_path / "run",
        [{"trial": "1", "label": "../LoRA α=2", **TRIAL}, {"trial": "2", "label": "LoRA/α=2", **TRIAL}],
    )
    paths = write_figures(folder, tmp_path / "out", kind="pdf")
    assert {path.name for path in paths} == {
        "count-epsilon.pdf",
        "layer-map-LoRA-2.pdf",
        "layer-map-LoRA-2-2.pdf",
        "similarity-LoRA-2.pdf",
        "similarity-LoRA-2-2.pdf",
        "forgetting-1-count.pdf",
        "forgetting-1-update-relative.pdf",
        "forgetting-1-task-score.pdf",
    }
    assert all(path.parent == tmp_path / "out" and path.read_bytes().startswith(b"%PDF") for path in paths)


def test_existing_figures_are_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", [{"trial": "1", "label": "LoRA", **TRIAL}])
    first = write_figures(folder, tmp_path / "out", kind="svg")
    with pytest.raises(DestinationError, match=re.escape("exists. Add --force to replace it")):
        write_figures(folder, tmp_path / "out", kind="svg")
    assert write_figures(folder, tmp_path / "out", kind="svg", force=True) == first
    first[0].write_text("<svg>mine</svg>")
    with pytest.raises(DestinationError, match="is not a figure of spectra"):
        write_figures(folder, tmp_path / "out", kind="svg", force=True)
    assert first[0].read_text() == "<svg>mine</svg>"


def test_a_run_without_a_finished_trial_is_refused(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", [{"trial": "1", "label": "LoRA", **TRIAL, "count": None}])
    with pytest.raises(RunError, match=r"has no finished trial\. Let `spectra sweep` finish one\.$"):
        write_figures(folder, tmp_path / "out")


def test_a_label_without_a_plain_letter_still_gets_a_name() -> None:
    trials = pd.DataFrame({"label": ["αβ", "βα"], "trial": ["1", "2"]})
    assert file_names(trials) == {"trial": "1", "trial-2": "2"}


def test_points_without_an_interval_are_drawn_without_one() -> None:
    table = TRIALS.assign(low=None, high=TRIALS["high"].where(TRIALS.index > 0))
    figure = forgetting_scatter(table)
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == table["label"].nunique()
    figure.savefig(io.BytesIO(), format="svg")
