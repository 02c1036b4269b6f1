"""A training method: LoRA whose factors start as peft's Gaussian initialisation draws them."""

from spectra.training.adapt import Method


def gaussian(settings, shared):
    """The peft configuration of one trial; `shared` has the target modules, the head and the kind of task."""
    from peft import LoraConfig

    own = {"r": settings.rank, "lora_alpha": settings.alpha, "init_lora_weights": "gaussian"}
    return LoraConfig(**{**shared, **own, **settings.arguments})


GAUSSIAN_LORA = Method(
    "gaussian-lora", "LoRA, A drawn from a normal distribution of scale 1/r.", gaussian, title="Gaussian LoRA"
)
