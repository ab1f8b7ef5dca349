"""The centre's schema: the numbered files of `sql/`, printed for psql or applied."""

from importlib import resources
from typing import NamedTuple

import psycopg

from f2b_digest.errors import CentreError


class Step(NamedTuple):
    """One file of the schema."""

    number: int
    sql: str


def steps() -> list[Step]:
    """Return the files in the order in which they are applied."""
    files = (
        file for file in resources.files("f2b_digest.fleet").joinpath("sql").iterdir() if file.name.endswith(".sql")
    )
    return [
        Step(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name)
    ]


_ALONE = "SET LOCAL citus.enable_ddl_propagation TO off;\n"
"""Before each file: where Citus is, `f2b.distribute` does what concerns the workers, in one go."""
_DISTRIBUTE = "SELECT f2b.distribute()"


def script() -> str:
    """Return the whole as a script for psql: a transaction for each file, ended by the first error."""
    files = (f"BEGIN;\n{_ALONE}{step.sql}COMMIT;" for step in steps())
    return "\n".join([r"\set ON_ERROR_STOP on", *files, "SET statement_timeout = 0;", f"{_DISTRIBUTE};", ""])


def version(connection: psycopg.Connection) -> int:
    """Return the number of the last applied file, or 0. Raises CentreError if that is a newer program's."""
    if connection.execute("SELECT to_regclass('f2b.version')").fetchone() == (None,):
        return 0
    found = connection.execute("SELECT max(number) FROM f2b.version").fetchone()
    number, known = int(found[0]) if found and found[0] else 0, steps()[-1].number
    if number > known:
        text = f"the centre was made by a newer f2b-digest (schema {number}, this one knows {known}): upgrade this one"
        raise CentreError(text, away=False)
    return number


def apply(connection: psycopg.Connection) -> list[int]:
    """Apply the files that are missing, each in a transaction; return their numbers. Raises CentreError."""
    present = version(connection)
    done = []
    for step in steps():
        if step.number > present:
            with connection.transaction():
                connection.execute((_ALONE + step.sql).encode())
            done.append(step.number)
    return done


def distribute(connection: psycopg.Connection) -> int | None:
    """Spread the events over Citus' workers, unless they are; return how many these are, None without Citus."""
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout TO 0")  # events that are there already are copied
        found = connection.execute(_DISTRIBUTE).fetchone()
    return None if found is None else found[0]
