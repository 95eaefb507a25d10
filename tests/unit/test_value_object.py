"""Value objects: what Python and what mypy make of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from value_object import value_object

ROOT = Path(__file__).parents[2]
MISUSED = """
from dataclasses import replace
from value_object import value_object

@value_object
class Point:
    x: int
    y: int = 0

point = replace(Point(x=1), y=2)
point.x = 2  # read-only
Point(1)  # Too many positional arguments
Point(x="1")  # incompatible type
replace(point, x="1")  # incompatible type
"""


@value_object
class Point:
    """Has one default."""

    x: int
    y: int = 0


def test_equal_fields_make_equal_values() -> None:
    assert Point(x=1) == Point(x=1, y=0) != Point(x=2)
    assert len({Point(x=1), Point(x=1, y=0), Point(x=2)}) == 2


def test_a_value_has_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).z = 3  # type: ignore[attr-defined]  # what is tested


def test_mypy_refuses_to_change_a_value_and_to_build_it_wrongly(tmp_path: Path) -> None:
    mypy = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={tmp_path}", "-c", MISUSED]
    said = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    mistakes = dict(re.findall(r"<string>:(\d+): error: (.*)", said))
    expected = {str(number): line for number, line in enumerate(MISUSED.splitlines(), start=1) if "  # " in line}
    assert mistakes.keys() == expected.keys()
    assert all(line.rpartition("# ")[2] in mistakes[number] for number, line in expected.items())
