"""How much information a verdict needs: the one place that says how few examples are too few.

The limits are those from which on the intervals of `proportions` and `mean` were measured to cover
(`scripts/check_coverage.py`); the limit on differing examples is also that of the exact test.
"""

import numpy as np
from jaxtyping import Float

FEWEST_EXAMPLES = 20  # with fewer, an interval of a mean rests on an assumed shape of the losses
# Of five differing examples all may go one way by chance in 2 * (1/2)^5 = 6 % of cases, of six in 3 %.
FEWEST_DIFFERING = 6
FEWEST_EFFECTIVE = 2.0  # examples that the variance rests on
FEW_EXAMPLES = 500  # with fewer, a reader is reminded that only large differences show
FEW_SCORES = 1000  # the same for the score of one model, from which no pairing takes the examples' own spread
SAME = 1e-9  # of the largest difference: differences closer than this are rounding


def few_examples_warning(n: int, task: str = "") -> tuple[str, ...]:
    """The reminder where few examples were measured."""
    of = f" of {task}" if task else ""
    return (f"Only {n:,} example{'' if n == 1 else 's'}{of}: a small difference does not show.",) * (n < FEW_EXAMPLES)


def lack_of_pairs(discordant: int, n: int) -> str:
    """Why 0/1 losses of two models do not tell, or ""."""
    if discordant >= FEWEST_DIFFERING:
        return ""
    changed = "none" if discordant == 0 else f"only {discordant}"
    return f"the loss of {changed} of {n:,} example{'' if n == 1 else 's'} changed, and {FEWEST_DIFFERING} are needed"


def lack_of_number(n: int) -> str:
    """Why so few examples do not tell, or ""."""
    if n >= FEWEST_EXAMPLES:
        return ""
    return f"there {'is only 1 example' if n == 1 else f'are only {n} examples'}, and {FEWEST_EXAMPLES} are needed"


def lack_of_examples(values: Float[np.ndarray, " n"], residuals: Float[np.ndarray, " n"]) -> str:
    """Why a weighted mean does not tell, or "".

    effective number = (sum_i r_i^2)^2 / sum_i r_i^4:  how many examples the variance rests on; m for m equal ones.

    Args:
        values: Of the examples.
        residuals: r_i = w_i (v_i - mean).
    """
    if few := lack_of_number(n := len(values)):
        return few
    differing = differing_values(values)
    if differing < FEWEST_DIFFERING and np.median(values) == 0:
        return lack_of_pairs(differing, n)
    if differing < FEWEST_DIFFERING:
        return (
            f"the difference is the same in all {n:,} examples"
            if differing == 0
            else f"the difference of only {differing} of {n:,} examples is another than that of all the rest, and "
            f"{FEWEST_DIFFERING} are needed"
        )
    squares = (residuals / np.abs(residuals).max()) ** 2
    if float(squares.sum() ** 2 / (squares**2).sum()) < FEWEST_EFFECTIVE:
        return f"one of the {n:,} examples outweighs all others"
    return ""


def differing_values(values: Float[np.ndarray, " n"]) -> int:
    """How many values are not the most usual one, rounding aside."""
    return int((np.abs(values - np.median(values)) > SAME * np.abs(values).max()).sum())
