# One command each. `make help` lists them; the first one used sets everything up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SCREEN := scripts/with-screen.sh
READY := .venv/.ready
# A real screen: the window stays open, ready to click. None: the demo drives the window and reports.
HEADLESS := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter-out Linux,$(shell uname))),,--drive --out demo)

.PHONY: help setup demo test gui lint format types docs screenshots bench lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## .venv with pinned packages (the other commands do this by themselves)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	scripts/setup.sh dev
	@touch $@

demo: $(READY)  ## the main job: click a cell, get its mask (drives the window where no screen is)
	$(SCREEN) $(BIN)/napari-sam demo $(HEADLESS)

# The tests' tensors are small: a process for each core, of one thread, is quickest. Each has a virtual
# screen of its own (pytest-xvfb), so that windows do not take the focus from each other.
test: export OMP_NUM_THREADS ?= 1
test: $(READY)  ## all tests, those of the real window included (ARGS="-k name" to choose)
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

gui: $(READY)  ## napari with the dock open
	$(BIN)/napari --with napari-sam-cells

lint: $(READY)  ## style and likely bugs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## strict types on everything below the window
	$(BIN)/mypy

docs: $(READY)  ## the documentation as a site in ./site
	$(BIN)/python -m pip install -q --constraint constraints.txt --group docs
	$(BIN)/typer napari_sam.cli utils docs --name napari-sam --title "Command line" \
		--output docs/reference/command-line.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(READY)  ## redo the pictures of the documentation from the real window
	$(SCREEN) $(BIN)/python scripts/screenshots.py

bench: $(READY)  ## speed against the reference implementation
	OMP_NUM_THREADS=$${THREADS:-$$(nproc)} $(BIN)/python -m benchmarks $(if $(JSON),--json $(JSON)) $(ARGS)

lock: $(READY)  ## write the versions of .venv to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	@touch $(READY)

clean:  ## remove what the commands made, .venv too
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .coverage
