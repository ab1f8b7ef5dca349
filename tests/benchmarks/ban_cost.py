"""Benchmark: a ban with our action beside one with sendmail-buffered, our shell command beside a bare interpreter.

Run: python -m tests.benchmarks.ban_cost [--rounds N] [--bans N]. Medians of rounds that ran in turn are quoted; the
quartiles of the rounds' own ratios tell the noise. Only the ratios mean anything on another machine.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from f2b_digest import recorder
from tests.support.fail2ban_server import ACTIONS, Fail2ban

PYTHON = "/usr/bin/python3"
BAN_TARGET = 0.15
COMMAND_TARGET = 2.5
JAILS = ("none", "ours", "buffered")


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bans", type=int, default=200, help="bans in one round")
    options = parser.parse_args()
    print(f"{'':40}  median ms  quartiles")
    ban_cost(options.rounds, options.bans)
    command_cost(4 * options.rounds)


def ban_cost(rounds: int, bans: int) -> None:
    """Compare bans through one fail2ban 1.0.2 with a jail for each action, in turn."""
    with Fail2ban("1.0") as server:
        server.stock("action.d/sendmail-buffered.conf", "action.d/sendmail-common.conf")
        # `lines` is never reached: it appends, and never mails.
        buffered = f'sendmail-buffered[lines=1000000000, tmpfile="{server.folder}/buffer", mailcmd="cat >/dev/null"]'
        server.write("conf/action.d/nothing.conf", "[Definition]\n")
        for jail, action in zip(JAILS, ("nothing", server.python_action(), buffered), strict=True):
            server.jail(jail, action)
        server.start()
        numbers = itertools.count()
        taken: dict[str, list[float]] = {jail: [] for jail in JAILS}
        for number in range(rounds + 1):
            for jail in JAILS:
                addresses = [address(next(numbers)) for _ in range(bans)]
                start = time.perf_counter()
                server.client("set", jail, "banip", *addresses)
                if number:  # the first round warms up
                    taken[jail].append((time.perf_counter() - start) / bans)
        recorded, appended = len(server.events()), (server.folder / "buffer").read_text().count("\n")
    if (recorded, appended) != ((rounds + 1) * bans, (rounds + 1) * bans):
        sys.exit(f"recorded {recorded} and appended {appended} of {(rounds + 1) * bans} bans")
    for jail, what in zip(JAILS, ("a ban, no action", "with f2b-digest.py", "with sendmail-buffered"), strict=True):
        line(what, taken[jail])
    nothing = statistics.median(taken["none"])
    compare(
        "cost of the action", [t - nothing for t in taken["ours"]], [t - nothing for t in taken["buffered"]], BAN_TARGET
    )


def address(number: int) -> str:
    """Return the IPv4 address of that number, from 10.0.0.0 on."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def command_cost(rounds: int) -> None:
    """Compare what fail2ban's shell runs for a ban with a Python that does nothing, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "bans.sqlite3")
        nothing = [PYTHON, "-I", "-S", "-c", "pass"]
        ours, bare = [], []
        for number in range(rounds + 1):
            ticket = [f"--ip={address(number)}", "--jail=ssh", f"--at={number}.0", "--failures=3", "--bantime=600"]
            record = [PYTHON, "-I", "-S", str(ACTIONS / "f2b-digest.py"), f"--store={store}", "--kind=ban", *ticket]
            times = seconds(record), seconds(nothing)
            if number:
                ours.append(times[0])
                bare.append(times[1])
        if recorder.spooled(store):
            sys.exit("the store did not take every ban")
    line("python3 -I -S -c pass", bare)
    line("f2b-digest.py as a command", ours)
    compare("the command", ours, bare, COMMAND_TARGET)


def seconds(command: Sequence[str]) -> float:
    """Run a command to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def line(what: str, times: list[float]) -> None:
    """Print one row of the table."""
    low, middle, high = (time * 1000 for time in statistics.quantiles(times, n=4))
    print(f"{what:40}  {middle:9.2f}  {low:.2f} to {high:.2f}")


def compare(what: str, ours: list[float], other: list[float], target: float) -> None:
    """Print a ratio of medians, and whether it is what was aimed at."""
    ratio = statistics.median(ours) / statistics.median(other)
    low, _, high = statistics.quantiles([a / b for a, b in zip(ours, other, strict=True)], n=4)
    reached = "yes" if ratio <= target else "no"
    print(f"{what}: ratio {ratio:.2f} ({low:.2f} to {high:.2f}), target {target}, reached {reached}\n")


if __name__ == "__main__":
    main()
