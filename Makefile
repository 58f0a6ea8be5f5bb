# make demo [POSTS=path]   the whole road on this machine: posts -> corpus -> tokenizer -> model -> answers
# make stop                end the server that the demo leaves running
# make test                set-up and all tests but the next ones
# make parity              divided training against one process, on up to four processes
# make lint                style and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Hundreds of processes start here; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo stop test parity lint setup clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Agora needs Python >= 3.11; this is " + sys.version.split()[0] + ". Use: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/python -m runs.demo $(if $(POSTS),--posts "$(POSTS)") $(if $(NO_SERVE),--no-serve)

stop: $(READY)
	$(BIN)/python -m runs.demo --stop

test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not parity"

parity: $(READY)
	$(BIN)/python -m pytest -m parity tests/training/parity

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist *.egg-info
