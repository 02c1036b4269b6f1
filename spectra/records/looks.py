"""How configurations look in every figure, on the page and on paper: colours and the names of measures."""

from collections.abc import Mapping

# Legible on white and on near-black (3:1 or more on both) and told apart by the common colour-blindnesses;
# full fine-tuning always has the first one.
FULL_COLOUR = "#d1602a"
COLOURS = ("#2e7fc9", "#1d9b6c", "#a86ac7", "#9c7f16", "#cf4c87", "#1b93a8", "#7c8794")
# What stands at an axis of a measure of trials.
AXES: Mapping[str, str] = {
    "count": "Intruder dimensions (number)",
    "energy_share": "Energy share of intruders (0 to 1)",
    "update_relative": "‖ΔW‖ / ‖W0‖ (Frobenius norms)",
    "effective_rank": "Effective rank of ΔW (mean over matrices)",
    "task_score": "Task score",
}
