"""How often 95 % intervals hold the truth, on families of losses whose truth is known.

    python scripts/check_coverage.py [--rounds 400] [--sizes 20,100,1000] [--seed 0]
    python scripts/check_coverage.py --proxy        # "count beyond norm", where the norm is a noisy proxy of the size

"told" is the share of samples that get a verdict, "covered" that of all intervals that hold the truth, "wrong" that of
verdicts with the wrong sign. Prints Markdown.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spectra.forgetting import Scores, forgetting
from spectra.statistics.rank_correlation import rank_correlation

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # losses of the base, of the tuned model, weights
Family = tuple[float, Callable[[np.random.Generator, int], Sample]]


def continuous(truth: float, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Family:
    """Differences drawn on top of normal losses, weights one."""

    def sample(generator: np.random.Generator, n: int) -> Sample:
        base = generator.normal(2, 1, n)
        return base, base + draw(generator, n), np.ones(n)

    return truth, sample


def weighted(truth: float, by_length: float, noise: float) -> Family:
    """Texts of lognormal length whose difference grows with the logarithm of the length."""

    def sample(generator: np.random.Generator, n: int) -> Sample:
        weights, base = np.exp(generator.normal(3, 1, n)), generator.normal(2, 0.5, n)
        return base, base + by_length * np.log(weights) + noise * generator.standard_t(3, n), weights

    return truth, sample


def errors(start: float, fall: float, rise: float) -> Family:
    """0/1 losses: P(1) before, and the chances of 1 -> 0 and of 0 -> 1."""

    def sample(generator: np.random.Generator, n: int) -> Sample:
        base = generator.random(n) < start
        tuned = np.where(base, generator.random(n) >= fall, generator.random(n) < rise)
        return base.astype(float), tuned.astype(float), np.ones(n)

    return (1 - start) * rise - start * fall, sample


FAMILIES: Mapping[str, Family] = {
    "normal": continuous(0.1, lambda g, n: g.normal(0.1, 0.3, n)),
    "lognormal, sigma 1.2": continuous(math.exp(-1 + 0.72), lambda g, n: np.exp(g.normal(-1, 1.2, n))),
    "Student t3": continuous(0.0, lambda g, n: g.standard_t(3, n)),
    "ties, 1 in 10 differs": continuous(0.01, lambda g, n: np.where(g.random(n) < 0.1, 0.1, 0.0)),
    "1 in 20 exponential": continuous(0.05, lambda g, n: np.where(g.random(n) < 0.05, g.exponential(1, n), 0.0)),
    "weights, grows with length": weighted(0.05 * (3 + 1), 0.05, 0.3),
    "weights, t3": weighted(0.0, 0.0, 1.0),
    "errors .5, both ways": errors(0.5, 0.2, 0.3),
    "errors .1 -> .16": errors(0.1, 0.3, 0.1),
    "errors .01 -> .02, one way": errors(0.01, 0.0, 0.01),
    "errors .005 -> .008, one way": errors(0.005, 0.0, 0.003),
    "errors .001 -> .004, one way": errors(0.001, 0.0, 0.003),
}


def of(values: np.ndarray, weights: np.ndarray) -> Scores:
    """Scores with these losses."""
    return Scores("t", "m", "u", values, weights, "loss", 0.0, "f")


def coverage(sizes: Sequence[int], rounds: int, seed: int) -> None:
    """One row per family and number of examples."""
    generator = np.random.default_rng(seed)
    print("| family | n | covered | told | covered where told | wrong |\n|---|---|---|---|---|---|")
    for name, (truth, sample) in FAMILIES.items():
        for n in sizes:
            seen = []
            for number in range(rounds):
                base, tuned, weights = sample(generator, n)
                found = forgetting(of(base, weights), of(tuned, weights), seed=number, resamples=1000)
                wrong = (found.low > 0 >= truth) or (found.high < 0 <= truth)
                seen.append((found.low <= truth <= found.high, not found.cannot_tell, wrong))
            covers, tells, wrongs = np.array(seen).T
            where_told = f"{covers[tells].mean():.3f}" if tells.any() else "-"
            print(f"| {name} | {n} | {covers.mean():.3f} | {tells.mean():.2f} | {where_told} | {wrongs.mean():.3f} |")


def proxy(rounds: int, seed: int) -> None:
    """A size moves count and forgetting (reliability 0.9 each), nothing else; the norm follows it more or less well."""
    generator = np.random.default_rng(seed)
    print("| settings | reliability of the norm | count beyond norm |\n|---|---|---|")
    for n in (12, 24, 48):
        for reliability in (1.0, 0.9, 0.8, 0.6):
            kept = 0
            for number in range(rounds):
                size, *noise = generator.normal(size=(4, n))
                shares = (0.9, 0.9, reliability)
                count, lost, norm = (
                    math.sqrt(r) * size + math.sqrt(1 - r) * e for r, e in zip(shares, noise, strict=True)
                )
                found = rank_correlation(count, lost, np.arange(n), norm, samples=1000, seed=number)
                kept += found.low is not None and found.low > 0
            print(f"| {n} | {reliability} | {kept / rounds:.3f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--sizes", default="20,100,1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--proxy", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.proxy:
        proxy(asked.rounds, asked.seed)
    else:
        coverage([int(n) for n in asked.sizes.split(",")], asked.rounds, asked.seed)


if __name__ == "__main__":
    main()
