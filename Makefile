# make run    install what is missing and open the app on 127.0.0.1
# make test   every test, the browser's included
# make specs  our requests held against OpenAI's and Together's own specifications (needs npm, ../shared/specs)
# make check  lint, format, types, house rules
# make bench-records   reading and converting, side by side with what people use today (hours, 12 GB of disk);
#                      a part of it: make bench-records BENCH="--size 200MB --task mapping"
# make bench-download  downloading from a Hub on this computer, side by side with hf download and aria2c (minutes)
# make bench-train     the trainer, side by side with a plain TRL script and a hand-written loop (a quarter of an hour,
#                      5 GB of memory); a part of it: make bench-train BENCH="--only job"
# make bench-kills     a hundred times kill -9 of whoever works on a training, and what is left of it (20 minutes)
# make bench-curves    the server's work to read a run of 100,000 points and draw its page (seconds)
# make bench-playground   how long a move of a slider takes, over the whole grid of stops (ten minutes)
#
# A CPU-only torch on Linux (200 MB instead of several GB):
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Without the local trainer:
#   make run REQUIREMENTS=requirements-app.txt

PYTHON ?= python3
VENV ?= .venv
REQUIREMENTS ?= requirements.txt
BIN := $(VENV)/bin

.PHONY: run test check specs format clean bench-records bench-download bench-kills bench-train bench-curves bench-playground

run: $(VENV)/$(REQUIREMENTS).done
	$(BIN)/python -m streamlit run app.py

test: $(VENV)/requirements-dev.txt.done
	$(BIN)/python -m pytest

check: $(VENV)/requirements-dev.txt.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house_rules.py

bench-records: $(VENV)/requirements-bench.txt.done
	$(BIN)/python bench/records.py $(BENCH)

bench-download: $(VENV)/requirements-app.txt.done
	$(BIN)/python bench/download.py $(BENCH)

bench-kills: $(VENV)/requirements.txt.done
	$(BIN)/python bench/kills.py $(BENCH)

bench-train: $(VENV)/requirements.txt.done
	$(BIN)/python bench/train.py $(BENCH)

bench-playground: $(VENV)/requirements-app.txt.done
	$(BIN)/python bench/playground.py $(BENCH)

bench-curves: $(VENV)/requirements-app.txt.done
	$(BIN)/python bench/curves.py $(BENCH)

specs: $(VENV)/requirements-dev.txt.done .prism/node_modules/.bin/prism
	$(BIN)/python -m pytest -q -rs tests/test_specs.py

.prism/node_modules/.bin/prism:
	npm install --no-audit --no-fund --prefix .prism @stoplight/prism-cli@5.14.2

format: $(VENV)/requirements-dev.txt.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/%.done: % requirements-app.txt requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install torch==2.13.0 --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -r $<
	touch $@

clean:
	rm -rf $(VENV) .prism .mypy_cache .ruff_cache .pytest_cache
