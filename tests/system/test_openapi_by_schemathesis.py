"""Schemathesis draws requests from the document and asks a real process with them: it must find nothing.

Other seeds and sizes: `SCHEMATHESIS_SEED=7 SCHEMATHESIS_EXAMPLES=500 make schemathesis`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from api.openapi.operation import Tag
from tests.integration.service_process import ROOT, mocked, service

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "60")
ADMIN_KEY = "only-for-this-one-test-run"
LONGEST_S = 600.0


def findings(url: str, *options: str) -> str:
    """What it says when it is not content, else nothing. It finds its hooks from the root of the repository."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIGURATION)),
        *("run", f"{url}/openapi.json", "--seed", SEED, "--max-examples", EXAMPLES, "--continue-on-failure"),
        *options,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=LONGEST_S,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout.decode() + done.stderr.decode()


def test_schemathesis_finds_nothing_as_a_caller(tmp_path: Path) -> None:
    with service(tmp_path, mocked(LOG_LEVEL="WARNING")) as running:
        found = findings(f"http://127.0.0.1:{running.port}")
    assert found == "", found


def test_schemathesis_finds_nothing_as_administrator(tmp_path: Path) -> None:
    """It shows the right key only: after a few wrong ones none would be looked at."""
    with service(tmp_path, mocked(LOG_LEVEL="WARNING", ADMIN_API_KEY=ADMIN_KEY)) as running:
        shown = ("-H", f"Authorization: Bearer {ADMIN_KEY}", "--exclude-checks", "ignored_auth")
        found = findings(f"http://127.0.0.1:{running.port}", *shown, "--include-tag", Tag.ADMINISTRATION)
        counted = running.ask("/metrics").text
    assert found == "", found
    assert re.search(r'http_requests_total\{endpoint="/api/v1/admin/[^}]+status_code="200"', counted)
    assert not re.search(r'http_requests_total\{endpoint="/api/v1/admin/[^}]+status_code="4(01|29)"', counted)
