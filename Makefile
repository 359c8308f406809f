SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: setup train test lint data clean

PYTHON := .venv/bin/python

CONFIG := conf/sample.yaml
DATA :=
RUN :=
ARGS :=

setup: .venv/.ready

.venv/.ready: uv.lock pyproject.toml conf/spark-submit
	@command -v python3 >/dev/null || { echo "error: python3 is missing: apt-get install python3" >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: Python 3.11 is needed, python3 is $$(python3 -V): apt-get install python3 (Debian 12)" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "error: Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "error: g++ is missing, Horovod is compiled with it: apt-get install g++" >&2; exit 1; }
	@test -x $(PYTHON) || python3 -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^ *"uv==\(.*\)",/\1/p' pyproject.toml)"
	.venv/bin/uv sync --locked --inexact --compile-bytecode
	@install -m 755 conf/spark-submit .venv/bin/spark-submit
	@touch $@

train: setup
	.venv/bin/spark-submit jobs/train_cnn.py --config $(CONFIG) $(if $(DATA),--data $(DATA)) $(if $(RUN),--run $(RUN)) $(ARGS)

test: setup
	.venv/bin/pytest $(ARGS)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

data: setup
	$(PYTHON) jobs/download_data.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
