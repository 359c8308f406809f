"""The service conforms to its OpenAPI document for any request."""

import os
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.servers import KEY, served


def test_the_service_conforms_to_its_openapi_document(run: Path, tmp_path: Path) -> None:
    hooks = {"SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_bodies", "PYTHONPATH": str(ROOT)}
    with served(run, tmp_path / "log", KEY) as server:
        process = subprocess.run(
            [
                ROOT / ".venv/bin/schemathesis", "run", f"{server.url}/openapi.json",
                "--header", f"Authorization: Bearer {KEY}",
                "--max-examples", "40", "--seed", "1", "--generation-database", "none", "--no-color",
                # random bytes sent as a picture, and random text sent as CSV, may be invalid
                "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
            ],
            cwd=tmp_path, env=os.environ | hooks,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
