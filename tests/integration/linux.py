"""What only Linux has: its tests are skipped elsewhere, where the service runs too."""

import sys

import pytest

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc, the limits of another process")
