"""How often the verdicts of a study are right, over simulated studies whose truth is known.

    python -m scripts.check_study --studies 1000

Prints, per planted truth, the share of studies with each verdict on every question, and in null studies the share with
any false verdict, which is at most 1 - level. The tables are simulated, not the training.
"""

import argparse
from collections import Counter
from multiprocessing import Pool

import numpy as np

from spectra.study import StudySettings, answers_of
from tests.study.simulated import Plant, simulated

ASKED = ("a", "b", "c", "d")  # e compares two configurations and is the interval of question d's kind
PLANTS = {
    "null": Plant(),
    "null, 3 seeds": Plant(seeds=3),
    "norm, linear": Plant(world="norm"),
    "norm, logarithmic": Plant(world="norm", shape="log"),
    "norm, quadratic": Plant(world="norm", shape="square"),
    "norm, counts rise with it": Plant(world="norm", contrast=True, rise=True),
    "norm measured with noise 0.15, counts rise with it": Plant(
        world="norm", contrast=True, rise=True, norm_noise=0.15
    ),
    "norm measured with noise 0.3, counts rise with it": Plant(world="norm", contrast=True, rise=True, norm_noise=0.3),
    "intruders": Plant(world="intruders", contrast=True, rise=True),
    "intruders, half the effect": Plant(world="intruders", per_share=0.015, contrast=True, rise=True),
    "intruders, 3 seeds": Plant(world="intruders", contrast=True, rise=True, seeds=3),
}
FALSE = ("supported", "contradicted")


def verdicts(job: tuple[str, int]) -> dict[str, str]:
    """The verdicts of one simulated study."""
    name, number = job
    generator = np.random.default_rng([sorted(PLANTS).index(name), number])
    settings = StudySettings.model_validate({"questions": list(ASKED)})
    return {one.question: one.verdict for one in answers_of(simulated(PLANTS[name], generator), settings).answers}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="simulated studies per planted truth")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--truths", nargs="+", choices=PLANTS, default=list(PLANTS), help="planted truths to simulate")
    options = parser.parse_args()
    with Pool(options.workers) as pool:
        for name in options.truths:
            found = pool.map(verdicts, [(name, number) for number in range(options.studies)], chunksize=10)
            print(f"{name} ({options.studies} studies)", flush=True)
            for question in ASKED:
                counted = Counter(one[question] for one in found)
                shares = ", ".join(f"{word} {count / len(found):.1%}" for word, count in counted.most_common())
                print(f"  {question}: {shares}")
            if name.startswith("null"):
                wrong = sum(any(verdict in FALSE for verdict in one.values()) for one in found)
                print(f"  any false verdict: {wrong / len(found):.1%}")


if __name__ == "__main__":
    main()
