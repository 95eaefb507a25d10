"""The shell that runs the commands of the pages; their tests are skipped where curl is missing, which they call."""

import shutil

import pytest

SHELL = ("bash", "-euo", "pipefail", "-c")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing, which the pages' commands call")
