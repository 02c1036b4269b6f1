"""One function per command, for notebooks and programs; the command line parses, calls one of them and prints.

Every function takes what it examines first, its base second, and everything else by keyword; it returns one record
with `to_dict()` (the JSON of the command), `to_dataframe()` and, in a notebook, a table. `spectra` exports them.
"""

# The function of each command. `sweep`, `study`, `report`, `figures` and `assets` are packages: their functions are
# verbs.
COMMANDS = {
    "advise": "advise",
    "assets": "list_assets",
    "compare": "compare",
    "convert": "convert",
    "doctor": "doctor",
    "extract": "extract",
    "figures": "write_figures",
    "forget": "forget",
    "inspect": "inspect",
    "intervene": "intervene",
    "intruders": "intruders",
    "merge": "merge",
    "mitigate": "mitigate",
    "plan": "plan",
    "plugins": "plugins",
    "report": "write_report",
    "resize": "resize",
    "scan": "scan",
    "status": "status",
    "study": "run_study",
    "sweep": "run_sweep",
}
