"""Where a scan is computed: in this process, or on a Ray cluster."""

from spectra.scanning.scan import Spread


def spread_over(ray: str | None) -> Spread | None:
    """The cluster at an address ("auto", or HOST:PORT) as a place to scan; None for this process."""
    if ray is None:
        return None
    from spectra.cluster import SpreadScan

    return SpreadScan(ray)
