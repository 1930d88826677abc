# make demo        install, train and evaluate on drawn garments
# make test        install and run the tests
# make test-slow   the long ones
# make lint        style, types and shell scripts (needs shellcheck)
# make docs        the pages and the API, in site/

PYTHON ?= python3
BIN := .venv/bin
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: demo test test-slow lint docs clean

demo: .venv/.installed
	$(BIN)/python -m dpconv_jax.main --config=configs/dpconv.py --workdir=runs/demo
	@echo "The report: runs/demo/report.md, its picture: runs/demo/report.png"

test: .venv/.installed-test
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/.installed-test
	$(BIN)/python -m pytest -m slow

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python .venv
	shellcheck .ci/run launch/*.sh launch/slurm.sbatch

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The pages: site/index.html; $(BIN)/python -m mkdocs serve shows them as they change"

clean:
	rm -rf .venv site .cache .pytest_cache .ruff_cache .hypothesis

# The exact versions of uv.lock, by a uv that lives in the same environment; --inexact keeps that uv.
.venv/.created:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	@touch $@

.venv/.installed: .venv/.created pyproject.toml uv.lock
	$(BIN)/uv sync --quiet --frozen --inexact
	@touch $@

.venv/.installed-test: .venv/.created pyproject.toml uv.lock
	$(BIN)/uv sync --quiet --frozen --inexact --extra test --group onnx
	@touch $@

.venv/.installed-docs: .venv/.created pyproject.toml uv.lock
	$(BIN)/uv sync --quiet --frozen --inexact --extra docs
	@touch $@
