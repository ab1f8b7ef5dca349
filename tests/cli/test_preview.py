"""What a person sees of a preview: in a real pseudo-terminal, of any size, and none of it in a pipe or a file."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from f2b_digest import recorder
from f2b_digest.cli.console import readable
from f2b_digest.rendering.layout import RESET, Layout, fold, painted, plain
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import parts

Seen = Callable[..., str]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
OWN = """\
{{ "Needs you" | paint("strong") }} {{ "bad" | paint("bad") }} width {{ width }}
{{ ("Somebody – at " ~ host ~ " tried " ~ jails[0].worst[0].users | join(", ") ~ " many × times…") | wrap(2) }}
{% for jail in jails %}
  {{ jail.name | paint("bad") }} {{ jail.bans | bar(jail.bans, 38) | paint("bar") }}
{% endfor %}
{% for jail in jails %}{% for address in jail.worst %}
  {{ address.ip }} an unbroken row of the admin's own that is longer than eighty columns of any terminal, é
{% endfor %}{% endfor %}
"""
HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a store with twelve bans, of hostile names, and a configuration with an own template that paints."""
    for number in range(12):
        ban = {"host": "web1", "jail": HOSTILE, "ip": f"192.0.2.{number}", "at": 1.79e9 + number, "users": [HOSTILE]}
        recorder.append(str(tmp_path / "bans.sqlite3"), recorder.event(kind="ban", source="test", **ban))
    (tmp_path / "own/email").mkdir(parents=True)
    (tmp_path / "own/email/body.txt").write_text(OWN)
    (tmp_path / "config.toml").write_text(
        f'host = "web1"\nstore = "{tmp_path}/bans.sqlite3"\ntemplates = "own"\n[reports.daily]\naddresses = 50\n'
    )
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\necho paged:$LESS >{tmp_path}/mark\nexec cat\n")
    pager.chmod(0o755)
    return tmp_path


@pytest.fixture
def seen(folder: Path) -> Seen:
    """Provide a function that runs `preview` (or another command) on a pseudo-terminal and returns its output."""

    def preview(
        *words: str, command: str = "preview", columns: int = 80, lines: int = 200, typed: str = "", **environment: str
    ) -> str:
        screen, inside = pty.openpty()
        os.write(screen, typed.encode())
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        run = [sys.executable, "-m", "f2b_digest", "--config", str(folder / "config.toml"), command, *words]
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "en_US.UTF-8", **environment}
        environment["PYTHONPATH"] = str(ROOT)
        with subprocess.Popen(run, stdin=inside, stdout=inside, stderr=inside, env=environment) as program:
            os.close(inside)
            last = threading.Timer(120, program.kill)  # a pager that waits for a key
            last.start()
            shown = b"".join(iter(lambda: read(screen), b""))
            last.cancel()
        os.close(screen)
        assert program.returncode == 0, shown
        return shown.decode().replace("\r\n", "\n")

    return preview


def read(screen: int) -> bytes:
    """Return what a terminal shows next; nothing when the program has ended."""
    try:
        return os.read(screen, 65536)
    except OSError:  # Linux says so when nobody has the other side open any more
        return b""


def piped(folder: Path, *words: str, **environment: str) -> bytes:
    """Return what a preview writes to a pipe."""
    command = [sys.executable, "-m", "f2b_digest", "--config", str(folder / "config.toml"), "preview", *words]
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "en_US.UTF-8", **environment}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


@pytest.mark.slow
def test_a_terminal_gets_colours_and_bars(seen: Seen) -> None:
    """What needs attention stands out."""
    shown = seen()
    assert "\x1b[1;31mbad\x1b[0m" in shown
    assert "█" * 30 in shown


@pytest.mark.slow
def test_a_digest_of_the_archive_looks_as_a_preview_does(seen: Seen, folder: Path) -> None:
    """Also in a narrow window, without colour, and by the pager."""
    with (folder / "config.toml").open("a") as file:
        file.write('channels = ["out"]\n[channels.out]\nkind = "file"\nfolder = "out"\n')
    seen(command="send")
    shown = seen("1", command="show", columns=60)
    assert "\x1b[1;31mbad\x1b[0m width 60" in " ".join(shown.split())
    assert "\x1b" not in seen("1", "--color", "never", command="show")
    seen("1", command="show", lines=10, PAGER=str(folder / "pager"))
    assert (folder / "mark").exists()
    (folder / "mark").unlink()
    seen("1", "--no-pager", command="show", lines=10, PAGER=str(folder / "pager"))
    assert not (folder / "mark").exists()


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_who_wants_no_colour_gets_none(seen: Seen, environment: dict[str, str]) -> None:
    """NO_COLOR is respected, and a terminal that only prints."""
    shown = seen(**environment)
    assert "\x1b" not in shown
    assert "bad" in shown


@pytest.mark.slow
def test_an_empty_no_color_is_no_wish(seen: Seen) -> None:
    """no-color.org: only when it is not an empty string."""
    assert ESCAPE.search(seen(NO_COLOR=""))


@pytest.mark.slow
def test_the_option_goes_before_the_environment(seen: Seen, folder: Path) -> None:
    """What is typed now counts more: also in a pipe, for `less -R`."""
    assert ESCAPE.search(seen("--color", "always", NO_COLOR="1"))
    assert not ESCAPE.search(seen("--color", "never"))
    coloured = piped(folder, "--color", "always").decode()
    assert ESCAPE.search(coloured)
    assert plain(coloured) == piped(folder).decode()


@pytest.mark.slow
def test_a_pipe_and_a_file_get_the_text_of_the_mail(folder: Path, seen: Seen) -> None:
    """What is previewed there is what is sent, whatever the terminal is like."""
    in_pipe = piped(folder, COLUMNS="40", LANG="C")
    seen("--output", str(folder / "out.txt"), columns=40, LANG="C")
    assert in_pipe == (folder / "out.txt").read_bytes()
    assert b"\x1b" not in in_pipe
    assert "width 78" in in_pipe.decode()
    assert "█" in in_pipe.decode()
    assert max(map(len, in_pipe.decode().splitlines())) > 80  # the template's own line


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "width"), [(60, 60), (40, 40), (20, 40), (80, 80), (300, 100)])
def test_no_line_is_longer_than_the_terminal(seen: Seen, columns: int, width: int) -> None:
    """Between 40 and 100 columns, whichever template is used; only a word that is longer stays in one piece."""
    shown = plain(seen(columns=columns))
    assert f"width {width}" in shown
    too_long = [line for line in shown.splitlines() if len(line) > width]
    assert [line for line in too_long if " " in line.strip()] == []


@pytest.mark.slow
def test_the_built_in_text_keeps_to_the_terminal(seen: Seen, folder: Path) -> None:
    """The same for the templates that everybody has."""
    (folder / "own/email/body.txt").unlink()
    shown = plain(seen(columns=60))
    assert "192.0.2.11" in shown
    assert [line for line in shown.splitlines() if len(line) > 60 and " " in line.strip()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"LANG": "C"}, {"LANG": ""}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_a_terminal_without_unicode_gets_ascii(seen: Seen, environment: dict[str, str]) -> None:
    """Bars of hashes, and every other character by one that looks like it."""
    shown = seen(**environment)
    assert shown.isascii()
    assert "#" * 30 in shown
    assert "Somebody - at web1" in shown
    assert "many x times..." in " ".join(plain(shown).split())


def test_a_character_that_an_encoding_lacks_is_shown_by_one_that_looks_like_it() -> None:
    """Only what is missing is replaced; what has no likeness is a question mark."""
    assert readable("é à 1\u202f234 – █ 中", "ascii") == "e a 1 234 - # ?"
    assert readable("é – 中", "latin-1") == "é - ?"
    assert readable("é – 中", "utf-8") == "é – 中"


@pytest.mark.slow
def test_no_escape_sequence_of_an_attacker_reaches_the_terminal(seen: Seen) -> None:
    """All that the terminal obeys is ours; what somebody else chose is shown as escapes."""
    shown = seen()
    ours = {"\x1b[1m", "\x1b[1;31m", "\x1b[36m", RESET}
    assert set(ESCAPE.findall(shown)) == ours
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ESCAPE.sub("", shown))
    assert r"\x1b[31mred\x1b]0;title\x07\x9b2J" in plain(shown)


# ---- the pager


@pytest.mark.slow
def test_a_text_that_is_longer_than_the_screen_goes_to_the_pager(seen: Seen, folder: Path) -> None:
    """With the flags that git sets: end if it fits, show colours, leave the screen."""
    assert "\x1b[1;31mbad" in seen(lines=10, PAGER=str(folder / "pager"))
    assert (folder / "mark").read_text() == "paged:FRX\n"


@pytest.mark.slow
def test_less_shows_unicode_also_where_the_locale_is_missing(seen: Seen) -> None:
    """A terminal from elsewhere brings the name of a locale that the server has not: less would show codes."""
    parts.program("less", "apt install less")
    shown = seen(lines=10, typed="q", LANG="xx_XX.UTF-8")
    assert "█" * 30 in shown
    assert "<E2>" not in shown


@pytest.mark.slow
def test_the_pagers_own_flags_are_kept(seen: Seen, folder: Path) -> None:
    """LESS is the person's."""
    seen(lines=10, PAGER=str(folder / "pager"), LESS="-i")
    assert (folder / "mark").read_text() == "paged:-i\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "environment", "lines"),
    [
        ((), {}, 200),
        (("--no-pager",), {}, 10),
        ((), {"PAGER": ""}, 10),
        ((), {"PAGER": "cat"}, 10),
        ((), {"PAGER": "no-such-pager"}, 10),
        ((), {"PAGER": "'half"}, 10),
        ((), {"TERM": "dumb"}, 10),
    ],
)
def test_no_pager_where_none_is_wanted(
    seen: Seen, folder: Path, words: tuple[str, ...], environment: dict[str, str], lines: int
) -> None:
    """A text that fits is printed; so is any where the person, or the machine, has no pager."""
    shown = seen(*words, lines=lines, **({"PAGER": str(folder / "pager")} | environment))
    assert "192.0.2.11" in shown
    assert not (folder / "mark").exists()


# ---- lines


def test_what_is_painted_across_a_break_is_painted_in_each_line() -> None:
    """A pager forgets colours at the end of a line."""
    lines = fold("one " + painted("two three four", "bad") + " five", 9, 2).split("\n")
    assert lines == ["one \x1b[1;31mtwo\x1b[0m", "  \x1b[1;31mthree\x1b[0m", "  \x1b[1;31mfour\x1b[0m", "  five"]
    assert [plain(line) for line in lines] == ["one two", "  three", "  four", "  five"]


def test_columns_of_a_row_stay_where_they_are() -> None:
    """Breaking a line moves nothing before the break."""
    assert fold("  a     b    c", 80, 4) == "  a     b    c"
    assert fold("  a     b    c", 10, 4) == "  a     b\n    c"
    assert fold("  a   b   18 nov. 23:40", 20, 4) == "  a   b\n    18 nov. 23:40"
    assert fold("  a   18 nov. 23:40 x", 12, 4) == "  a\n    18 nov.\n    23:40 x"
    assert fold("x" * 30 + " y", 10, 2) == "x" * 30 + "\n  y"


def test_an_unknown_style_is_named(tmp_path: Path) -> None:
    """A mistake of an own template is said, with or without colours."""
    (tmp_path / "a.txt").write_text("{{ 'x' | paint('loud') }}")
    renderer = Renderer(tmp_path).with_layout(Layout(colour=False))
    with pytest.raises(Exception, match="no style 'loud'"):
        renderer.render(["a.txt"], {"notes": (), "undelivered": ()})
