"""A run keeps the account of every row, and its page and terminal say what was lost."""

import json
from pathlib import Path

import click
from click.testing import CliRunner

from spectra.cli.sweep import print_account
from spectra.data import load_task
from spectra.forgetting import open_held_out
from spectra.report.inputs.material import Material
from spectra.report.tables.html_tables import rows_table
from spectra.report.text.warnings import lost_rows
from spectra.runs import tidy
from spectra.sweep.trial.row_account import account_rows
from spectra.training.settings import TrainingSettings
from tests import tiny


def test_the_account_says_what_was_read_used_dropped_and_cut(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "bert", "bert")
    rows = [{"text": f"w{i % 30} w{i // 30}" + " good" * (i % 2) * 6, "label": "xy"[i % 2]} for i in range(100)]
    file = tmp_path / "task.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:25]]))
    settings = TrainingSettings(base, "full", 1e-3, 0, steps=1, max_length=5, train_examples=40)
    held_out = [open_held_out({"path": str(file), "measure": "lm-loss"}, max_length=64)]
    found = list(account_rows([load_task(str(file))], held_out, settings, tiny.tokenizer()))
    assert [(row["role"], row["split"], row["read"], row["used"]) for row in found] == [
        ("task", "train", 125, 80),
        ("task", "validation", 10, 10),
        ("task", "test", 10, 10),
        ("held out", "test", 125, 100),
    ]
    train = found[0]
    assert (train["set_aside"], train["dropped"], train["reasons"], train["classes"]) == (20, 25, "25 repeated", 2)
    cut = [text for text in load_task(str(file)).train["text"][:40] if len(text.split()) > 5]
    assert (train["texts"], train["texts_cut"], train["tokens_lost"]) == (40, len(cut), 3 * len(cut))
    assert "25 of 125 rows read for the train split (20.0%) are not used" in train["warning"]
    assert [row["overlap"] for row in found] == [None, 0, 0, 40]
    assert "40 of its rows are also training rows of this sweep" in found[-1]["warning"]

    table = tidy("row_account", [{**row, "trial": trial} for trial in "ab" for row in found])

    material = Material("sweep", "made", {"row_account": table})
    assert len(rows_table(material).rows) == 4
    assert lost_rows(material) == list(dict.fromkeys(row["warning"] for row in found if row["warning"]))

    @click.command()
    def show() -> None:
        print_account(table)

    told = CliRunner().invoke(show)
    assert (
        f"task, train: 80 of 125 rows used; 20 set aside; 25 repeated; {len(cut)} of 40 texts cut; 2 labels"
        in told.stdout
    )
    assert f"Warning: {train['warning']}" in told.stderr
