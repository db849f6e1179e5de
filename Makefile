# Everything starts from Python 3.11+ and make: the environment is made here and kept in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow lint format wheel clean

help:
	@echo "make demo       redact the sample tree with the embedded model"
	@echo "make test       linters, types, import rules, tests, wheel (under 15 minutes on 2 cores)"
	@echo "make test-slow  soak and fuzz tests"
	@echo "make format     format and fix what can be fixed"

# One stamp per set of extras: a repeated make does nothing.
$(VENV)/.cpu: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing starencoder[cpu] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing starencoder[cpu,train,test] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,train,test]'
	@touch $@ $(VENV)/.cpu

demo: $(VENV)/.cpu
	@$(BIN)/python examples/demo.py

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 -m "not slow and not gpu"
	$(BIN)/python tests/check_wheel.py

test-slow: $(VENV)/.test
	$(BIN)/pytest -m "slow and not gpu"

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
