"""How busy the machine is with other work while a benchmark runs."""

import os
import resource
import time
from pathlib import Path

# Load before, and mean load of others meanwhile, per core: 1.5 and 0.5 on two cores.
BUSY_BEFORE = 0.75
BUSY_MEANWHILE = 0.25


class MachineLoad:
    """The load average before, and from then on the processor time that other processes take."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        self.before = os.getloadavg()[0]
        self.began, self.busy, self.own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def others(self) -> float:
        """Mean number of cores that other processes have kept busy since then; 0 where nothing tells."""
        busy = _busy_seconds() - self.busy - (_own_seconds() - self.own)
        return max(busy, 0.0) / max(time.perf_counter() - self.began, 1e-9)

    def told(self) -> str:
        """One sentence for the foot of a table."""
        after = os.getloadavg()[0]
        return (
            f"Load of the machine {self.before:.1f} before and {after:.1f} after, "
            f"of which others {self.others():.1f} on average; {self.cores} cores."
        )

    def too_much(self) -> str | None:
        """Why these timings do not stand for an idle machine; None where they do."""
        if self.before > BUSY_BEFORE * self.cores:
            return f"The load was {self.before:.1f} before the first scan, on {self.cores} cores."
        if self.others() > BUSY_MEANWHILE * self.cores:
            return f"Other processes kept {self.others():.1f} of {self.cores} cores busy meanwhile."
        return None


def _busy_seconds() -> float:
    """Processor time that all processes have taken since the machine started."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system = (int(field) for field in stat.read_text().split(maxsplit=4)[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor time of this process and its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)
