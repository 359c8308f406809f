"""The service keeps what its OpenAPI document promises, whatever it is sent."""

import os
import subprocess
from collections.abc import Callable

from tests.conftest import ROOT
from tests.serving.conftest import KEY, Server


def test_the_service_keeps_its_promises(serve: Callable[[str | None], Server]) -> None:
    done = subprocess.run(
        [
            ROOT / ".venv/bin/schemathesis", "run", f"{serve(KEY).url}/openapi.json",
            "--header", f"Authorization: Bearer {KEY}",
            "--max-examples", "40", "--seed", "1", "--generation-database", "none", "--no-color",
            # bytes that are typed as a picture, and text that is typed as CSV, need be none
            "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
        ],
        cwd=ROOT, env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_bodies"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
