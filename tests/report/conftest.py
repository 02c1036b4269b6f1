from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated import pictured, scan_of, sweep_tables, write_run

from spectra.report import write_report, write_scan_report

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "fabricated", sweep_tables())


@pytest.fixture(scope="session")
def sweep_report(run_folder: Path) -> Path:
    return write_report(run_folder)


@pytest.fixture(scope="session")
def scan_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scan = scan_of(3, intruders=9, bounds=True)
    return write_scan_report(pictured(scan), tmp_path_factory.mktemp("scan") / "scan.html")


@pytest.fixture(scope="session")
def blank_scan_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a checkpoint without a single intruder."""
    scan = scan_of(3, intruders=0, bounds=True)
    return write_scan_report(pictured(scan), tmp_path_factory.mktemp("scan") / "blank.html")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=arguments)
        yield browser
        browser.close()
