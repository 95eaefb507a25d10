"""A running service writes no file: a container may mount everything read-only but /tmp."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# CPython's audit hook sees every file that is opened, made, renamed or removed in the process.
WATCHED = """
import asyncio, os, sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
touched = []

def watch(event, arguments):
    if event == "open" and arguments[2] & WRITING and isinstance(arguments[0], (str, bytes)):
        touched.append(os.fsdecode(arguments[0]))
    if event in {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}:
        touched.append(os.fsdecode(arguments[0]))

sys.addaudithook(watch)
from app import app

async def serve():
    async with app.test_app() as running:
        body = open("examples/comparison.json", "rb").read()
        response = await running.test_client().post("/api/v1/comparison", data=body)
        print("status", response.status_code)
        await running.test_client().get("/metrics")

asyncio.run(serve())
if "prove" in sys.argv:
    open(os.environ["TMPDIR"] + "/footprint", "w").close()
print("touched", [path for path in touched if path != os.devnull])
"""


def watched(tmp_path: Path, *arguments: str) -> str:
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(tmp_path),
        "LLM_PROVIDER_SERVICE_USE_MOCK_LLM": "true",
        "LLM_PROVIDER_SERVICE_MOCK_ERROR_RATE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "status 200" in done.stdout
    return done.stdout.splitlines()[-1]


def test_the_service_writes_nowhere(tmp_path: Path) -> None:
    assert watched(tmp_path) == "touched []"


def test_a_written_file_would_be_seen(tmp_path: Path) -> None:
    assert watched(tmp_path, "prove") == f"touched ['{tmp_path / 'footprint'}']"
