"""Write the texts that the demo measures forgetting on: glosses that its base model was never trained on.

They come with the package, so that the demo needs no package manager but pip:

    spectra assets fetch wordnet-glosses
    python scripts/write_wordnet_sample.py spectra/assets/shipped/wordnet-sample
"""

import json
import sys
from pathlib import Path

from spectra.assets import asset, fetch
from spectra.data import load_task

TEXTS = 1000


def licence(folder: Path) -> str:
    """WordNet's licence, which stands in the indented and numbered first lines of its data files."""
    lines = []
    for line in (folder / "data.noun").read_text(encoding="latin-1").split("\n"):
        if not line.startswith("  "):
            return "\n".join(lines) + "\n"
        lines.append(line.strip().partition(" ")[2])
    raise SystemExit(f"'{folder}' holds no licence")


def main() -> None:
    """Write texts, licence and origin into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    texts = load_task("wordnet-glosses").test["text"][:TEXTS]
    lines = [json.dumps({"file": "wordnet 3.0", "text": text}, ensure_ascii=False) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "LICENSE-WordNet.txt").write_text(licence(fetch("wordnet-glosses")), encoding="utf-8")
    entry = asset("wordnet-sample")
    origin = {"asset": entry.name, "package": entry.package, "version": entry.version, "licence": entry.licence}
    (folder / "origin.json").write_text(json.dumps(origin, indent=2) + "\n")


if __name__ == "__main__":
    main()
