# `make demo` and `make test` need Python 3.11 or newer and nothing else: each makes .venv and installs what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv
# More words for pip, for example: make demo PIP_ARGS="--extra-index-url URL-of-the-CPU-builds-of-torch"
PIP_ARGS ?=
# Words for the demo, for example: make demo DEMO_ARGS='--goal "open the door" --seed 3'
DEMO_ARGS ?=
PYTEST_ARGS ?=
# One torch thread a test process: two processes with two threads each are slower than with one.
WORKERS ?= 2

BIN := $(VENV)/bin
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
PACKAGING := pyproject.toml setup.py setup.cfg constraints.txt
EGL_PACKAGES := libegl1 libgl1 libgles2 libgl1-mesa-dri

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint clean check-python check-egl

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: check-egl $(BASE) ## Run the demo; DEMO_ARGS are its options
	$(BIN)/egotwin demo $(DEMO_ARGS)

test: check-egl $(DEV) ## Run the quick tests; PYTEST_ARGS are pytest's options
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:launch_testing -p no:launch_ros \
		-n $(WORKERS) --dist loadfile -q $(PYTEST_ARGS)

test-slow: check-egl $(DEV) ## Run the tests that build packages or train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:launch_testing -p no:launch_ros -m slow -q $(PYTEST_ARGS)

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

clean: ## Remove .venv, build results and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "error: '$(PYTHON)' was not found: install Python 3.11, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1), and the pinned libraries need 3.11 or newer:" \
		"make PYTHON=/path/to/python3.11" >&2; exit 1; }

# Without EGL, MuJoCo cannot render without a screen, and only a system package can give it.
check-egl: | check-python
	@[ "$$(uname)" != Linux ] || "$(PYTHON)" -c 'import ctypes; ctypes.CDLL("libEGL.so.1")' 2>/dev/null || { \
		echo "error: libEGL.so.1 is missing, which MuJoCo renders with. Install it, on Debian or Ubuntu:" \
		"sudo apt-get install $(EGL_PACKAGES)" >&2; exit 1; }

# The stamps are last: an interrupted installation is taken up again by the next make.
$(BASE): $(PACKAGING) | check-python
	test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the libraries into $(VENV): this takes some minutes the first time."
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS) -c constraints.txt -e .
	touch $@

$(DEV): $(BASE)
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS) -c constraints.txt -e '.[test,dev]'
	touch $@
