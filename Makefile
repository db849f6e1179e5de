# Everything starts from Python 3.11+ and make: the environment is made here and kept in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow lint format encoder model clean

help:
	@echo "make demo       redact the sample tree with the embedded model"
	@echo "make test       linters, types, import rules, tests, wheel (under 15 minutes on 2 cores)"
	@echo "make test-slow  soak and fuzz tests"
	@echo "make encoder    pretrain the embedded model's encoder anew in build/model"
	@echo "make model      make the embedded model anew in build/model (GOLD=folder with train.jsonl, dev.jsonl)"
	@echo "make format     format and fix what can be fixed"

# One stamp per set of extras: a repeated make does nothing.
$(VENV)/.cpu: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing starencoder[cpu] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing starencoder[cpu,train,ray,datatrove,test] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,train,ray,datatrove,test]'
	@touch $@ $(VENV)/.cpu

demo: $(VENV)/.cpu
	@$(BIN)/python examples/demo.py

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 -m "not slow"
	$(BIN)/python tests/check_wheel.py

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

MODEL := build/model
$(MODEL)/tokenizer/tokenizer.json: $(VENV)/.test pii/models/tiny/packages.toml
	$(BIN)/starencoder packages fetch pii/models/tiny/packages.toml --output $(MODEL)/packages
	$(BIN)/starencoder tokenizer train $(MODEL)/packages --vocab-size 16384 --chars 40000000 --seed 1 --output $(MODEL)/tokenizer
	@touch $@

# Two hours on 2 cores. What was interrupted goes on.
encoder: $(MODEL)/tokenizer/tokenizer.json
	$(BIN)/starencoder pretrain prepare pretrain/models/tiny/run.toml
	$(BIN)/starencoder pretrain run pretrain/models/tiny/run.toml --resume
	$(BIN)/starencoder report $(MODEL)/encoder

# Three hours on 2 cores. dev.jsonl is not trained on. A tagger that is finished is made anew.
model: $(MODEL)/tokenizer/tokenizer.json
	@test -f "$(GOLD)/train.jsonl" -a -f "$(GOLD)/dev.jsonl" || { echo "make model GOLD=folder with train.jsonl and dev.jsonl"; exit 2; }
	cp $(GOLD)/train.jsonl $(GOLD)/dev.jsonl $(MODEL)
	$(BIN)/starencoder pii synthesize $(MODEL)/packages --count 40000 --chars 60000000 --seed 1 --output $(MODEL)/synthetic.jsonl
	$(BIN)/starencoder packages fetch pii/models/tiny/unannotated.toml --output $(MODEL)/unannotated
	$(BIN)/starencoder pii pseudo-label $(MODEL)/unannotated/*-* --output $(MODEL)/pseudo.jsonl
	$(BIN)/starencoder pii rebuild-gold --split extra --output $(MODEL)/extra.jsonl
	rm -rf $(MODEL)/tagger/model.safetensors $(MODEL)/tagger/onnx
	$(BIN)/starencoder pii train pii/models/tiny/recipe.toml --output $(MODEL)/tagger --resume
	$(BIN)/starencoder export onnx $(MODEL)/tagger
	$(BIN)/starencoder export quantize $(MODEL)/tagger
	$(BIN)/starencoder pii train-router $(MODEL)/tagger $(MODEL)/packages --annotated $(MODEL)/train.jsonl $(MODEL)/extra.jsonl
	$(BIN)/starencoder packages fetch pii/models/tiny/router_packages.toml --output $(MODEL)/router_packages
	$(BIN)/starencoder pii calibrate-router $(MODEL)/tagger $(MODEL)/router_packages --chars 20000000
	$(BIN)/starencoder pii evaluate $(MODEL)/dev.jsonl --model $(MODEL)/tagger

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
