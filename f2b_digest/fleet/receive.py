"""A hub's end of an upload by ssh: one JSON object a line, each answered by one. Whatever arrives is untrusted.

Its rows are checked and cut here as `f2b.append` does in PostgreSQL; the store appends them (`store/received.py`).
"""

import fcntl
import json
import logging
import math
import os
import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.fleet.deadline import TooLongError, deadline
from f2b_digest.fleet.door import MALFORMED, MISSING, TOO_MUCH
from f2b_digest.store import FROM_A_HOST, Arrived, End, Received, Refused, Said

log = logging.getLogger(__name__)

MOST_ROWS, MOST_BYTES = 5000, 16 * 2**20
"""Of a batch."""
MOST_STATE, MOST_CHAIN = 65536, 524288
"""Characters of JSON."""
IDLE, SOON = 120.0, 10.0
"""Seconds that a connection may wait for its host: a dead connection must not hold its place for ever. The
second: one that is refused, of which a host could open any number."""
MEMORY = 256 * 2**20
"""Bytes for this process: a batch needs a third of it, 16 MiB of empty objects twice as much."""
LIMITS = {"kind": 20, "jail": 200, "ip": 200, "users": 4000, "matches": 8000}
"""Characters of texts."""
TIMES = ("at", "recorded_at")
LAST_TIME, HIGHEST, LONGEST = 4102444800.0, 10**9, 10**10
"""A host must not give a digest numbers that no clock and no calendar has: 2100 in UTC epoch seconds, seconds."""
NEEDED = ("kind", "jail", "ip", *TIMES, "source")
UNAVAILABLE = "55000"


def limit_memory() -> None:
    """Limit what this process can take: more would be taken from fail2ban and the hub's other programs."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most), most))


def serve(received: Received, host: str, asked: IO[bytes], answers: IO[bytes], clock: Callable[[], float]) -> None:
    """Answer a host's calls until it has no more, is silent for too long, or sends something else."""
    while line := _line(asked, IDLE):
        answer, goes_on = _answer(received, host, line, clock())
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if not goes_on:
            return


def refuse(asked: IO[bytes], answers: IO[bytes], reason: str) -> None:
    """Refuse a host's first call for now."""
    if _line(asked, SOON):
        answers.write(json.dumps({"refused": reason, "state": UNAVAILABLE}).encode() + b"\n")
        answers.flush()


@contextmanager
def only_one(path: Path, number: int) -> Iterator[bool]:
    """Hold the place of a host's upload, which only one connection can hold; the value says whether it was had.

    One byte of a file beside the store for each host. The kernel frees it when the process ends. Raises OSError.
    """
    descriptor = recorder.open_regular(f"{path}.receive", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _line(asked: IO[bytes], seconds: float) -> bytes:
    try:
        with deadline(seconds):
            return asked.readline(MOST_BYTES + 1)
    except TooLongError:
        log.info("nothing arrived for %g s", seconds)
        return b""


def _answer(received: Received, host: str, line: bytes, now: float) -> tuple[dict[str, Any], bool]:
    """Return the answer to a call, and whether the connection goes on."""
    if len(line) > MOST_BYTES:
        return {"refused": f"a call has at most {MOST_BYTES} bytes", "state": TOO_MUCH}, False
    try:
        call = json.loads(line, parse_constant=_no_number)
        (verb, values), *_ = call.items()
        return {"hello": _hello, "append": _append}[verb](received, host, values, now), True
    except Refused as refused:
        return {"refused": str(refused), "state": refused.state}, True
    except StoreError as error:  # locked, full, damaged: the host keeps what it has
        return {"refused": f"the hub's store: {error}", "state": UNAVAILABLE}, True
    except MemoryError:
        return {"refused": "a call takes too much memory", "state": TOO_MUCH}, False
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        log.debug("no call", exc_info=True)
        return {"refused": "this is not a call of f2b-digest forward", "state": MALFORMED}, False


def _no_number(name: str) -> None:
    raise Refused(MALFORMED, f"{name} is not a number")


def _hello(received: Received, host: str, values: dict[str, Any], now: float) -> dict[str, Any]:
    state, chain = values["state"], values.get("chain")
    said = json.dumps(state)
    if len(said) > MOST_STATE or len(json.dumps(chain)) > MOST_CHAIN:
        raise Refused(TOO_MUCH, "a host says at most 64 KiB of itself")
    if not isinstance(state, dict):
        raise Refused(MALFORMED, "a host's state is an object")
    clock = _known(state.get("now"))
    told = Said(said, None if clock is None else clock - now, _known(state.get("complete_until")))
    links = None if chain is None else list(_links(chain))
    return received.hello(host, _uuid(values["life"]), links, told, now)._asdict()


def _append(received: Received, host: str, values: dict[str, Any], now: float) -> dict[str, Any]:
    rows, life = values["rows"], _uuid(values["life"])
    after = End(_whole(values["after_seq"]), _uuid(values["after_batch"]))
    batch = End(_whole(values["upto"]), _uuid(values["batch"]))
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS or batch.seq <= after.seq:
        raise Refused(TOO_MUCH, f"a batch has 1 to {MOST_ROWS} rows and at most 16 MiB")
    events = [_event(row, host, after.seq, batch.seq, now) for row in rows]
    return {"seq": received.append(host, life, after, batch, events, now)}


def _links(chain: Any) -> Iterator[tuple[str, str, int]]:
    for life, batch, upto in chain:
        yield _uuid(life), _uuid(batch), _whole(upto)


def _event(row: Any, host: str, after: int, upto: int, now: float) -> Arrived:
    """Return a row as an event: unknown keys are passed over, missing ones are NULL. Raises Refused."""
    if not isinstance(row, dict):
        raise Refused(MALFORMED, "a row is an object")
    if not after < _whole(row.get("seq")) <= upto:
        raise Refused(TOO_MUCH, "a row is not in its batch's range")
    if lacking := [name for name in NEEDED if row.get(name) is None]:
        raise Refused(MISSING, f"a row has no {lacking[0]}")
    values = {name: _column(name, row.get(name)) for name in recorder.COLUMNS}
    # Its clock may be ahead; a calendar report takes what was recorded before now.
    recorded = min(values["recorded_at"], now)
    values |= {"host": host, "source": FROM_A_HOST, "history": int(row.get("history") == 1), "recorded_at": recorded}
    own = _text(row.get("own"), 200) if row["kind"] == "ban" else None
    return Arrived(tuple(values[name] for name in recorder.COLUMNS), own)


def _column(name: str, value: Any) -> Any:
    if name in LIMITS:
        return _text(value, LIMITS[name])
    if name in ("host", "source", "history") or value is None:
        return None
    number = _known(value)
    if number is None:
        raise Refused(MALFORMED, "a number in a row is not one")
    if name in TIMES:
        return min(max(number, 0.0), LAST_TIME)
    return int(min(max(number, -1), LONGEST) if name == "bantime" else min(max(number, 0), HIGHEST))


def _text(value: Any, limit: int) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused(MALFORMED, "a text in a row is not a string")
    return None if value is None else value[:limit].encode("utf-8", "backslashreplace").decode()


def _known(value: Any) -> float | None:
    """Return a number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise Refused(MALFORMED, "an event's number is not one")
    return value


def _uuid(text: Any) -> str:
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        raise Refused(MALFORMED, "a life or a batch is a UUID") from None
