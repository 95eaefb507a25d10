"""The shell that does as the pages say; where curl is missing, which `make test` shall not need, it does nothing."""

import shutil

import pytest

SHELL = ("bash", "-euo", "pipefail", "-c")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing, which the pages' commands call")
