"""Mark the tests that a full run found slow.

Run: `nox -s all -- --durations=0 -vv >LOG; python -m tests.tools.mark_slow LOG`.

A test function is slow from 0.5 s on, or from 2 s on with all its parameters. Marks that are there stay.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

EACH, ALL = 500, 2000
"""Milliseconds."""
LINE = re.compile(r"([\d.]+)s (?:call|setup|teardown) +(\S+?\.py)::(\w+)(\S*.*)")
MARK = "@pytest.mark.slow"


def slow_functions(log: str) -> dict[str, set[str]]:
    """Return by file the functions that a log of durations shows to be slow."""
    tests: Counter[tuple[str, str, str]] = Counter()
    for seconds, file, function, parameters in LINE.findall(log):
        tests[file, function, parameters] += round(1000 * float(seconds))
    functions: Counter[tuple[str, str]] = Counter()
    for (file, function, _), taken in tests.items():
        functions[file, function] += taken
    slow = {key[:2] for key, taken in tests.items() if taken >= EACH}
    slow |= {key for key, taken in functions.items() if taken >= ALL}
    by_file = defaultdict(set)
    for file, function in slow:
        by_file[file].add(function)
    return by_file


def marked(source: str, functions: set[str]) -> str:
    """Return a module's source with the mark on each of the functions, and the import that it needs."""
    lines = source.split("\n")
    tree = ast.parse(source)
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in functions]
    starts = [min(node.lineno, *(d.lineno for d in node.decorator_list), node.lineno) - 1 for node in found]
    for start, node in sorted(zip(starts, found, strict=True), key=lambda pair: pair[0], reverse=True):
        if not any(ast.unparse(decorator) == MARK[1:] for decorator in node.decorator_list):
            lines.insert(start, MARK)
    if MARK in lines and "import pytest" not in lines:
        first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        lines.insert(first.lineno - 1, "import pytest")  # `ruff check --fix` puts it where it belongs
    return "\n".join(lines)


def main() -> None:
    """Mark the files of this checkout that the log names; print which functions are new."""
    for file, functions in sorted(slow_functions(Path(sys.argv[1]).read_text()).items()):
        path = Path(file)
        if not path.exists():  # moved since the log
            continue
        before = path.read_text()
        after = marked(before, functions)
        if after != before:
            path.write_text(after)
            print(f"{file}: {after.count(MARK) - before.count(MARK)} more")  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
