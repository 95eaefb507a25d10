"""Audits the locked packages for known vulnerabilities; says so when the package index gives no advisories."""

import argparse
import json
import subprocess
import sys

COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--require-hashes"),
    *("-r", "requirements.lock", "--format", "json", "--progress-spinner", "off", "--timeout", "15"),
)
LONGEST_S = 300


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 1 when a locked package has a known vulnerability."""
    argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__).parse_args(arguments)
    try:
        audit = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=LONGEST_S)  # noqa: S603  our own command
    except subprocess.TimeoutExpired:
        return _unanswered("it did not answer in time")
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        return _unanswered((audit.stderr.strip().splitlines() or ["no reason given"])[-1])
    found = [(package["name"], weakness["id"]) for package in packages for weakness in package.get("vulns", ())]
    for name, weakness in found:
        print(f"{name}: {weakness}", file=sys.stderr)
    print(f"Audited {len(packages)} locked packages: {len(found)} known vulnerabilities.")
    return 1 if found else 0


def _unanswered(reason: str) -> int:
    print(f"NOT AUDITED: the package index gave no advisories ({reason}).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
