"""What every number on a page means, where the definition comes from, and what it does not show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """One entry of the page's glossary."""

    term: str
    meaning: str
    limits: str
    source: str
    # The kinds of page that speak of it, as words of `Page.kind`; every page where there are none.
    kinds: tuple[str, ...] = ()


INTRUDER = (
    "Shuttleworth, Andreas, Torralba & Sharma, “LoRA vs Full Fine-tuning: An Illusion of Equivalence”, arXiv:2410.21228"
)

DEFINITIONS = (
    Definition(
        "Intruder dimension",
        "Take the singular value decomposition of a weight matrix before (W0) and after fine-tuning (W_tuned). One of "
        "the k leading left singular vectors y of W_tuned is an intruder dimension when max_i |⟨x_i, y⟩| < ε over all "
        "left singular vectors x_i of W0. The count of a model is the sum over its matrices.",
        "It measures how spread out a vector is over W0's singular vectors, not whether it leaves their span. It is "
        "blind to how large the singular value is, and it saturates when most leading vectors are intruders.",
        f"{INTRUDER}, Definition 3.1 and Algorithm 1; the absolute cosine, as in the authors' code.",
    ),
    Definition(
        "Energy share",
        "Σ S_j² over the intruders divided by Σ S_j² over the k leading vectors, with S the singular values of "
        "W_tuned. A trial's figure is the mean over its matrices.",
        "Leading singular values differ by orders of magnitude between models: compare within one base model.",
        "The weight of a count by squared singular values; no unit.",
    ),
    Definition(
        "Random direction",
        "The largest |cosine| expected of a unit vector drawn at random, against orthonormal vectors: "
        "E max|g_i| / E‖g‖ for a standard normal g.",
        "Real updates are not random directions; the line says what the threshold would call one.",
        "Exact: the direction and the length of a normal vector are independent.",
    ),
    Definition(
        "Forgetting",
        "The mean loss of the tuned model minus that of the base model on a held-out task, computed by the same code; "
        "positive means forgotten. The 95 % interval over examples is the score interval of paired proportions for 0/1 "
        "losses, and a bootstrap-t interval for all others. It cannot be told with fewer than 6 examples that differ, "
        "or for other than 0/1 losses with fewer than 20 in all or one that outweighs the rest.",
        "The interval covers the choice of examples, not of seeds, data orders or held-out tasks.",
        f"{INTRUDER}, section 4, for losses; for task errors, the same difference.",
        kinds=("sweep", "comparison", "intervention", "study", "merge"),
    ),
    Definition(
        "Intervention",
        "W_tuned + (λ − 1) Σ u_j σ_j v_jᵀ over the treated intruders, applied to the loaded model: λ = 0 removes them, "
        "1 changes nothing. Its control, the shrink, scales the update of the same matrices to the norm that this "
        "leaves. The verdict rests on the areas between the two curves, at equal λ and at equal task score.",
        "That intruders matter by themselves, unless both areas favour scaling them; random directions and neighbours "
        "are weaker controls than the shrink.",
        f"{INTRUDER}, section 5, for scaling the highest-ranked intruder of each matrix; the controls are this "
        "project's.",
        kinds=("sweep", "comparison", "intervention", "study"),
    ),
    Definition(
        "Relative norm of the update",
        "‖ΔW‖_F / ‖W0‖_F with ΔW = W_tuned − W0; a trial's figure takes both norms over all compared matrices.",
        "A large update is not by itself a harmful one.",
        "Frobenius norms; no unit.",
    ),
    Definition(
        "Effective rank",
        "exp(entropy of S / ΣS), with S the singular values of ΔW; between 1 and the rank. A trial's figure is the "
        "mean over its matrices.",
        "It is neither the numerical rank nor the stable rank ‖ΔW‖_F² / ‖ΔW‖_2², which is far smaller.",
        "Roy & Vetterli, “The effective rank: a measure of effective dimensionality”, EUSIPCO 2007.",
    ),
    Definition(
        "Ill-conditioned vector",
        "A neighbouring singular value is so close that the single singular vector could be turned within its cluster "
        "without changing the matrix noticeably.",
        "Its verdict stands as the definition says, but another computation may decide it otherwise.",
        "Davis & Kahan, “The rotation of eigenvectors by a perturbation III”, SIAM J. Numer. Anal. 7 (1970).",
    ),
    Definition(
        "Spearman's ρ",
        "The correlation of ranks over trials; with another measure held fixed, the partial correlation of ranks. The "
        "95 % interval is a bootstrap over settings: the trials of one configuration at one learning rate, all its "
        "seeds, are drawn together. Fewer than 8 settings have no coefficient.",
        "Association is not cause: a learning rate moves count, norm and forgetting together. Holding the norm fixed "
        "does not hold fixed the size of the change behind it: given a noisy proxy of that size, a count without a "
        "part of its own seems to keep one, the more often the more settings there are. Of many intervals, one in "
        "twenty leaves out zero by chance.",
        "Spearman 1904; cluster bootstrap: Field & Welsh, J. R. Stat. Soc. B 69 (2007).",
        kinds=("sweep", "comparison", "study"),
    ),
    Definition(
        "Chosen trial",
        "For every configuration, the learning rate with the best mean validation score. Intruder counts and "
        "forgetting play no part in the choice, and the test split is scored for chosen trials only.",
        "A finer or wider grid of learning rates may choose differently.",
        "This project's protocol.",
        kinds=("sweep", "comparison", "study"),
    ),
)
