"""The program as it is started: by its name, or as `python -m f2b_digest`. The commands are in `cli`."""

import gc
import os
import sys


def run() -> None:
    """Run the program and end the process; `record` and an idle `retry`, which others wait for, end at once."""
    gc.disable()  # while modules are loaded there is nothing to collect: an eighth of the time of a `record`
    from f2b_digest.cli import main  # noqa: PLC0415

    gc.enable()
    try:
        main()
    except SystemExit as end:
        if "sqlalchemy" in sys.modules or not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)  # all is on disk: taking the interpreter down would take a fifth of the time


if __name__ == "__main__":
    run()
