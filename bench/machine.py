"""The machine: who runs on which core, and what it is called in a report."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

THREADS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
SHOWN = ("quart", "uvicorn", "uvloop", "aiohttp", "pydantic", "orjson", "redis", "aiokafka")


def cores() -> tuple[int, int]:
    """The server's core, and one for everything else. Raises SystemExit when there are not two.

    The second thread of the server's core is taken only where there is no other.
    """
    server, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("The benchmark needs two cores: one for the server, one for the load.")
    return server, next((other for other in others if _threads(other) != _threads(server)), others[0])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside stays on this core, with all of its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> dict[str, str]:
    """What a figure depends on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} in {sys.base_prefix}",
        **{name: version(name) for name in SHOWN},
    }


def commit() -> str:
    """What was measured; "+" when something but the results had changed."""
    known = _git("rev-parse", "--short", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return known + ("+" if changes else "")


def _threads(cpu: int) -> str:
    """Those of its core; where the machine does not say, each processor counts as one."""
    told = Path(THREADS.format(cpu))
    return told.read_text() if told.exists() else str(cpu)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def need(*programs: str) -> None:
    """Raises SystemExit when one is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"Install {' and '.join(missing)} first.")


def version_of(program: str, option: str = "--version") -> str:
    """What it calls itself: the first words."""
    said = subprocess.run((program, option), capture_output=True, text=True, check=True).stdout  # noqa: S603  our own
    return " ".join(said.split()[:3])


def _git(*command: str) -> str:
    """What git says; nothing without git."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(("git", *command), capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.stdout.strip()
