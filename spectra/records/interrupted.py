"""Ctrl-C during a long call: what is done is not lost."""

from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a scan or an intervention.

    Attributes:
        result: What the call returns, with the part that is done.
        resumes: True where the same call goes on from there.
    """

    def __init__(self, result: Any, *, resumes: bool) -> None:
        super().__init__()
        self.result, self.resumes = result, resumes
