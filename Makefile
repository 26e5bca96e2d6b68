# make demo    trains the default captioner on built-in pictures, evaluates it, writes a gallery
# make test    the whole test suite
# Each sets up its own virtual environment first; ACCELERATOR=cuda or tpu chooses another build of JAX.

PYTHON ?= python3
ACCELERATOR ?= cpu
VENV ?= .venv
RUN = $(VENV)/bin/python
comma := ,
EXTRAS = dev$(if $(filter cpu,$(ACCELERATOR)),,$(comma)$(ACCELERATOR))
STAMP = $(VENV)/.installed-$(ACCELERATOR)
WORKDIR ?= runs/demo
export JAX_COMPILATION_CACHE_DIR ?= $(HOME)/.cache/vlm_jax/compiled
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.3

.PHONY: demo test lint format seeded-bugs nightly results clean

demo: $(STAMP)
	$(RUN) -m experiments.show_attend_and_tell scenes train --workdir $(WORKDIR)
	@echo "Open $(WORKDIR)/gallery_test.html"

test: $(STAMP) lint
	$(RUN) -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

seeded-bugs: $(STAMP)
	$(RUN) -m tests.seeded_bugs

nightly: $(STAMP)
	$(RUN) -m pytest -m nightly

results: $(STAMP)
	$(RUN) -m vlm_jax.report results --write README.md

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip setuptools
	$(RUN) -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info runs/demo
