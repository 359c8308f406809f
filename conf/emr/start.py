"""Train and compare the network and the forest on a new or a running cluster of EMR.

.venv/bin/python conf/emr/start.py BUCKET --subnet subnet-0123
.venv/bin/python conf/emr/start.py BUCKET --cluster j-0123
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3


def read(name: str, values: dict[str, str]) -> Any:
    """Read a JSON file of this folder with values in place of ``BUCKET``, ``SUBNET`` and ``DATE``."""
    text = (Path(__file__).parent / name).read_text()
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return json.loads(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and compare the network and the forest on EMR.")
    parser.add_argument("bucket", help="name of the bucket with the archive and the data; runs are written to it")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--subnet", help="ID of the subnet for a new cluster")
    where.add_argument("--cluster", help="ID of a running cluster that conf/emr/bootstrap.sh has set up")
    arguments = parser.parse_args()
    date = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    values = {"BUCKET": arguments.bucket, "SUBNET": arguments.subnet or "", "DATE": date}
    emr, steps = boto3.client("emr"), read("steps.json", values)
    if arguments.cluster:
        emr.add_job_flow_steps(JobFlowId=arguments.cluster, Steps=steps)
        cluster = arguments.cluster
    else:
        cluster = emr.run_job_flow(**read("cluster.json", values), Steps=steps)["JobFlowId"]
    print(f"cluster {cluster}, report s3://{arguments.bucket}/runs/{date}/comparison/report.html")


if __name__ == "__main__":
    main()
