"""Code that a checkpoint brings along: never run, unless the user says so on the command line."""

import os

from spectra.errors import ModelError

# A variable and no argument, so that the processes that do the work of a sweep learn it too.
VARIABLE = "SPECTRA_TRUST_REMOTE_CODE"


def trusts_remote_code() -> bool:
    """Whether the code of checkpoints may be run: what every call of transformers is told."""
    return os.environ.get(VARIABLE) == "1"


def trust_remote_code() -> None:
    """Let the code of checkpoints be run, in this process and those that it starts."""
    os.environ[VARIABLE] = "1"


def remote_code_refusal(reference: str, error: Exception) -> ModelError | None:
    """The sentence for a checkpoint that needs its own code; None for any other error."""
    if "trust_remote_code" not in str(error):
        return None
    return ModelError(
        f"'{reference}' brings its own code (auto_map), which is not run. Use a checkpoint of a kind that transformers "
        "knows, or trust its code with --trust-remote-code."
    )
