"""Work on a Ray cluster: joining one, what it offers, and a scan spread over its nodes. Ray is an optional package."""

from spectra.cluster.connection import Places, joined, passed_on, places
from spectra.cluster.scan import SpreadScan
from spectra.cluster.workplace import stand_where_the_driver_stands

__all__ = ["Places", "SpreadScan", "joined", "passed_on", "places", "stand_where_the_driver_stands"]
