# Two commands on a fresh machine: `make demo` and `make test`. Each sets up its environment on first use.
#   STACK=onedl (default) or STACK=official   which OpenMMLab family; each has its own environment
#   PYTHON=python3.12                         which interpreter to build the environment with (3.10 to 3.12)

STACK ?= onedl
ENV := $(if $(filter official,$(STACK)),.venv-official,.venv)

# The first interpreter that starts and fits; if none does, set-up says what to install.
fits := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(shell for p in python3 python3.12 python3.11 python3.10; do \
	if $$p -c '$(fits)' 2>/dev/null; then echo $$p; fi; done) python3)

.PHONY: demo test lint docs setup setup-compiled

demo: setup
	$(ENV)/bin/python -m xvit_det demo

# One process per core, one thread in each: the tests' models are small, and OpenMP threads would wait for one another.
test: setup
	OMP_NUM_THREADS=1 $(ENV)/bin/python -m pytest --numprocesses auto --dist worksteal

lint: setup
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/lint-imports --no-logo
	$(ENV)/bin/mypy

# The site, in site/. The variable silences a note about successors of MkDocs.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(ENV)/bin/mkdocs build --strict

setup:
	@$(PYTHON) tools/setup_env.py --stack $(STACK)

# mmcv's own compiled ops (needs a C++ compiler; with nvcc and a GPU they are built for CUDA).
setup-compiled:
	@$(PYTHON) tools/setup_env.py --stack $(STACK) --compiled
