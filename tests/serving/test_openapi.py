"""The service keeps what its OpenAPI document promises, whatever it is sent."""

import os
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.servers import KEY, served


def test_the_service_keeps_its_promises(run: Path, tmp_path: Path) -> None:
    hooks = {"SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_bodies", "PYTHONPATH": str(ROOT)}
    with served(run, tmp_path / "log", KEY) as server:
        done = subprocess.run(
            [
                ROOT / ".venv/bin/schemathesis", "run", f"{server.url}/openapi.json",
                "--header", f"Authorization: Bearer {KEY}",
                "--max-examples", "40", "--seed", "1", "--generation-database", "none", "--no-color",
                # bytes that are typed as a picture, and text that is typed as CSV, need be none
                "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
            ],
            cwd=tmp_path, env=os.environ | hooks,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
