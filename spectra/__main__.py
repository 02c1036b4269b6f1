"""`python -m spectra` is the `spectra` command."""

from spectra.cli.main import main

main()
