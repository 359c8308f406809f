#!/usr/bin/env bash
# The role of a container: master, worker, history, submit (with a job and its options), or serve.
set -euo pipefail

# The server of a run, as SageMaker starts it. It needs neither Spark nor a secret nor a writable file.
if [ "${1:-}" = serve ]; then
  shift
  exec .venv/bin/python -m serving "${RUN:-/opt/ml/model}" --host 0.0.0.0 "$@"
fi

if [ -z "${SPARK_SECRET:-}" ]; then
  echo "error: no secret: set SPARK_SECRET in .env, the same for all containers of a cluster" >&2
  exit 1
fi
# Spark reads the secret from a file only; no other user of the container can read it.
export SPARK_CONF_DIR=$HOME/conf
(
  umask 077
  cp --recursive conf/docker/. "$SPARK_CONF_DIR"
  echo "spark.authenticate.secret $SPARK_SECRET" >>"$SPARK_CONF_DIR/spark-defaults.conf"
)

role=${1:-}
case $role in
  master)
    exec .venv/bin/spark-class org.apache.spark.deploy.master.Master --host "$HOSTNAME" --port 7077 --webui-port 8080
    ;;
  worker)
    exec .venv/bin/spark-class org.apache.spark.deploy.worker.Worker --webui-port 8081 spark://master:7077
    ;;
  history)
    exec .venv/bin/spark-class org.apache.spark.deploy.history.HistoryServer
    ;;
  submit)
    shift
    exec .venv/bin/spark-submit --driver-memory "$DRIVER_MEMORY" --executor-memory "$WORKER_MEMORY" "$@"
    ;;
  *)
    echo "error: the first word is ${role:-missing}; it is one of master, worker, history, submit and serve" >&2
    exit 2
    ;;
esac
