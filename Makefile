# Two commands from a bare clone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
WORKERS ?= 2

.PHONY: demo test coverage check format docs notebooks clean

demo: $(VENV)/.demo
	$(BIN)/spectra sweep --out $(RUN) --workers $(WORKERS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The share of lines that the tests reach in their own processes, workers not counted; below the floor it fails.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov=spectra --cov-report=term:skip-covered

check: $(VENV)/.dev
	$(BIN)/ruff format --check spectra tests scripts
	$(BIN)/ruff check spectra tests scripts
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format spectra tests scripts
	$(BIN)/ruff check --fix spectra tests scripts

docs: $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt "mkdocs-material" "mkdocstrings[python]"
	$(BIN)/python scripts/build_docs.py

notebooks: $(VENV)/.dev
	$(BIN)/python scripts/run_notebooks.py notebooks/*.ipynb

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
