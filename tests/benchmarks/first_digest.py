"""Benchmark: from nothing to the first digest of imported history, and what an import costs beside `grep -c Ban`.

Run: python -m tests.benchmarks.first_digest [--lines N]. It makes a virtual environment in a scratch folder, installs
this checkout into it, imports a log of a million lines and shows the digest, as a person would.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import ROOT

AIM = 60
"""Seconds, from `pip install` to the digest."""


def write_log(path: Path, lines: int) -> None:
    """Write two weeks of a log in which every tenth line is a ban."""
    chance = random.Random(5)
    start, step = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=14), timedelta(days=14) / lines
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            at = start + number * step
            stamp = at.strftime("%Y-%m-%d %H:%M:%S") + f",{at.microsecond // 1000:03}"
            ip = f"10.{chance.randrange(4)}.{chance.randrange(256)}.{chance.randrange(256)}"
            if number % 10:
                file.write(f"{stamp} fail2ban.filter         [514]: INFO    [sshd] Found {ip} - {stamp[:19]}\n")
            else:
                file.write(f"{stamp} fail2ban.actions        [514]: NOTICE  [sshd] Ban {ip}\n")


def seconds(*command: str | Path) -> float:
    """Run a command to its end, and read its output: grep ends at its first find if that goes to /dev/null."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run it, and print a line for each part."""
    parser = argparse.ArgumentParser(description="From nothing to the first digest.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-benchmark-"))
    log, store = folder / "fail2ban.log", folder / "bans.sqlite3"
    write_log(log, lines)
    program = folder / "venv/bin/f2b-digest"
    parts = {
        "python -m venv": seconds(sys.executable, "-m", "venv", folder / "venv"),
        "pip install": seconds(folder / "venv/bin/pip", "install", "-q", ROOT),
        f"import of {lines:,} lines": seconds(program, "--store", store, "import", "--pending", log),
        "preview": seconds(program, "--store", store, "preview"),
    }
    for what, took in parts.items():
        print(f"{what:30} {took:6.1f} s")
    total = sum(parts.values())
    print(f"{'nothing to first digest':30} {total:6.1f} s (aim: under {AIM}: {'reached' if total < AIM else 'MISSED'})")
    rate = lines / parts[f"import of {lines:,} lines"]
    print(f"{'lines a second':30} {rate:8,.0f} (aim: 300,000: {'reached' if rate >= 300_000 else 'MISSED'})")
    ratio = parts[f"import of {lines:,} lines"] / seconds("grep", "-c", "Ban", log)
    print(f"{'import / grep -c Ban':30} {ratio:6.0f}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
