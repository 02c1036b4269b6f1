"""The search of the documentation site runs in a page that was opened from a folder."""

from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "scripts" / "iframe-worker.js"
WORKER = """
self.addEventListener("message", (event) => postMessage(`heard ${event.data}`));
"""
PAGE = f"""<!doctype html><body><script src="{SCRIPT.as_uri()}"></script><script>
const worker = new Worker(new URL("worker.js", location));
worker.addEventListener("message", (event) => document.title += `${{event.data}};`);
worker.onmessage = (event) => document.title += "twice";
worker.postMessage("a word");
</script></body>"""


def test_a_worker_of_a_page_in_a_folder_answers(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "worker.js").write_text(WORKER)
    (tmp_path / "page.html").write_text(PAGE)
    page = chromium.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.title.includes('twice')", timeout=10_000)
    assert page.title() == "heard a word;twice"
    page.close()
