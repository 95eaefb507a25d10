"""The generated parts of the documents, each between its markers: written, or checked."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Texts = Mapping[Path, str]


def main(description: str | None, fresh: Callable[[], Texts]) -> int:
    """A program that writes or checks these texts. Returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.{Path(sys.argv[0]).stem}", description=description)
    parser.add_argument("--write", action="store_true", help="write them instead of checking them")
    return renew(fresh(), write=parser.parse_args().write)


def renew(fresh: Texts, *, write: bool) -> int:
    """Write the texts that are out of date, or name them. Returns the exit code."""
    stale = [path for path, text in fresh.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if write:
            path.write_text(fresh[path])
        else:
            print(f"{path} is out of date: run `make format`", file=sys.stderr)
    return 1 if stale and not write else 0


def replaced(text: str, name: str, part: str) -> str:
    """The text with this part between the markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin, 1)
    _, after = rest.split(end, 1)
    return f"{before}{begin}\n{part}\n{end}{after}"
