"""Custom template files: whatever is wrong with one, the digest is sent in time, with a note."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from f2b_digest import delivery, isolation, resources
from f2b_digest.channels.email import Email
from f2b_digest.channels.webhook import Webhook
from f2b_digest.errors import TemplateError
from f2b_digest.rendering import renderer as rendering_renderer
from f2b_digest.rendering import template_files
from f2b_digest.rendering.renderer import Renderer
from tests.support import samples
from tests.support.program import Command, let_everybody_enter
from tests.support.store_making import event, fill, query

TEMPLATES = resources.folder("templates")
MAIL = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})
BODY, SUBJECT = "email/body.txt", "email/subject.txt"
DIGEST = samples.telling()
STAMP = delivery.stamp_of(DIGEST, "0" * 32, "mail", 0.0)
TOLD = "\n! dovecot has been stopped"
"""A line of the mail by the built-in template."""
PEAK = 200
"""MB that no rendering may exceed."""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Provide a folder for the admin's own templates."""
    (tmp_path / "own/email").mkdir(parents=True)
    return tmp_path / "own"


def mail(renderer: Renderer) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the parts of a mail, and the notes on what went wrong."""
    content, noted = delivery.fit(MAIL.needs, DIGEST, renderer, lambda content: MAIL.fits(content, STAMP))
    return dict(content.parts), noted.notes


# ---- what cannot be read

Spoil = Callable[[Path], object]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "Latin-1": (lambda file: file.write_bytes(b"ok\nr\xe9sum\xe9\n"), "line 2 is not UTF-8 text (byte 0xe9)"),
    "UTF-16": (lambda file: file.write_bytes("{{ host }}".encode("utf-16")), "line 1 is not UTF-8 text"),
    "a folder": (lambda file: file.mkdir(), "is a folder"),
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "a link loop": (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
    "a link to nothing": (lambda file: file.symlink_to("nothing.txt"), "No such file"),
    "a link to /etc/passwd": (lambda file: file.symlink_to("/etc/passwd"), "is a symlink out of the folder"),
    "a link to a device": (lambda file: file.symlink_to("/dev/zero"), "is a symlink out of the folder"),
    "a huge file": (lambda file: os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 1 << 40), "larger than 1 MiB"),
    "a link to a folder": (lambda file: file.symlink_to(file.parent), "Is a directory"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED)
def test_a_template_that_cannot_be_read_is_replaced_and_named(own: Path, spoil: Spoil, reason: str) -> None:
    """The built-in one takes its place, the digest names the file and what is wrong, and the other own ones stay."""
    spoil(own / BODY)
    (own / SUBJECT).write_text("Mine on {{ host }}")
    parts, (note,) = mail(Renderer(TEMPLATES, own))
    assert note.startswith(f"template {own / BODY}: ")
    assert reason in note
    assert note.endswith("; the built-in template was used")
    assert TOLD in parts[BODY]
    assert "Mine on web1.example.org" in parts[SUBJECT]
    assert str(own / BODY)[:60] in " ".join(parts[BODY].split())


@pytest.mark.parametrize("kind", ["nowhere", "a file", "a FIFO", "a link loop", "too much"])
def test_a_folder_that_is_none_is_told_once(tmp_path: Path, kind: str) -> None:
    """Not once for each template that would be in it."""
    folder = tmp_path / "own"
    if kind == "a file":
        folder.write_text("")
    elif kind == "a FIFO":
        os.mkfifo(folder)
    elif kind == "a link loop":
        folder.symlink_to("own")
    elif kind == "too much":
        folder.mkdir()
        for number in range(template_files.MOST + 1):
            (folder / f"{number}.txt").touch()
    parts, notes = mail(Renderer(TEMPLATES, folder))
    assert len(notes) == 1
    assert str(folder) in notes[0]
    assert TOLD in parts[BODY]


def test_a_closed_file_or_folder_is_told(own: Path) -> None:
    """Of another user's making: the sender may list the folder, and not read what is in it."""
    (own / SUBJECT).write_text("Mine")
    (own / "email").chmod(0)
    program = (
        "from f2b_digest.rendering import template_files; from pathlib import Path; import os\n"
        "os.setresuid(65534, 65534, 65534)\n"
        f"folder = template_files.read(Path({str(own)!r})); print(folder.fault({SUBJECT!r}))"
    )
    let_everybody_enter(own)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{own / 'email'}: Permission denied\n"


def test_links_within_the_folder_and_hidden_files_are_fine(own: Path) -> None:
    """One subject for mail and phone; a folder that is kept in git."""
    (own / SUBJECT).write_text("Mine on {{ host }}")
    (own / "ntfy").mkdir()
    (own / "ntfy/title.txt").symlink_to("../email/subject.txt")
    (own / ".git").mkdir()
    for number in range(template_files.MOST):
        (own / ".git" / str(number)).touch()
    (own / "email/.subject.txt.swp").write_bytes(b"\xff")
    renderer = Renderer(TEMPLATES, own)
    assert renderer.render(["ntfy/title.txt"], {"host": "web1"}) == {"ntfy/title.txt": "Mine on web1"}
    assert mail(renderer)[1] == ()


def test_all_templates_together_have_a_limit(own: Path) -> None:
    """Root reads them: 500 files of 1 MiB would be much for a small machine."""
    for number in range(10):
        (own / f"email/{number}.txt").write_text("x" * template_files.LARGEST)
    assert sum(map(len, template_files.read(own).texts.values())) <= template_files.ALL


@pytest.mark.parametrize("content", [b"r\xe9sum\xe9", None])
def test_a_send_with_such_a_template_seals_and_delivers(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path, content: bytes | None
) -> None:
    """As cron runs it: the ban is reported, once, and the line names the file."""
    fill(path, [event()])
    body = tmp_path / "own" / BODY
    body.parent.mkdir(parents=True)
    if content is None:
        body.symlink_to("body.txt")
    else:
        body.write_bytes(content)
    config.write_text('templates = "own"\n' + config.read_text())
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.out, ended.err.count("\n")) == (0, "", 1)
    assert f"template {body}: " in ended.err
    assert query(path, "SELECT bans FROM digest") == [(1,)]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert str(body) in f2b_digest("--config", config, "preview", "--since", "1d").err


def test_templates_and_languages_are_read_before_the_sender_changes_its_user(own: Path, tmp_path: Path) -> None:
    """Once the renderer is created, nothing more is opened or imported: root's files, and Python's own, may be closed.

    A template of root's alone (0600) works, in the language of each report.
    """
    (own / SUBJECT).write_text("{{ 1 }} {{ no_such_name }}")
    (own / SUBJECT).chmod(0o600)
    (own / BODY).write_text("{% include 'shared/facts.txt' %}{{ totals.bans | number }} {{ start | day }}")
    config = tmp_path / "config.toml"
    config.write_text('templates = "own"\n[reports.daily]\n[reports.weekly]\nlanguage = "fr"\n')
    program = f"""
import os, sys
from pathlib import Path
from f2b_digest import config, delivery
from tests.rendering import test_template_files as here
configuration = config.load(Path({str(config)!r}), host="web1", timezone="UTC")
renderer = delivery.renderer_of(configuration)
from f2b_digest.rendering import environment  # as all modules, by cli.preload
def refuse(event, arguments):
    proc = event == "open" and str(arguments[0]).startswith("/proc/self/")
    if event in ("import", "open", "os.scandir", "os.listdir") and not proc:
        os.write(2, f"{{event}} {{arguments[0]}}\\n".encode())
        os._exit(3)
sys.addaudithook(refuse)
for report in ("daily", "weekly"):
    parts, notes = here.mail(delivery.renderer_for(renderer, configuration, report))
    os.write(1, (notes[0] + parts[here.BODY]).encode())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "Thu 19 Nov 2026" in ended.stdout.decode()
    assert "jeu. 19 nov. 2026" in ended.stdout.decode()
    assert ended.stdout.decode().count("'no_such_name' is undefined") == 2


# ---- what has no end

ENDLESS = {
    "a constant": "{{ 1 | round(-999999999) }}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a recursion": "{% macro again(n) %}{% for i in (1, 2) %}{{ again(n - 1) if n else '' }}{% endfor %}{% endmacro %}"
    "{{ again(60) }}",
    "sentences": "{{ lipsum(n=9999999) }}",
}
BLOATED = {
    "doubling": "{% set ns = namespace(x='x' * 9) %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a constant": "{{ ['x' * 999999] * 99999 }}{{ 'x' * 4000000000 }}",
    "a filter": "{{ host | center(4000000000) }}",
    "a list": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a text": "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "a long text": "{{ 'x' * 9999999 }}",
    "depth": "{{ " + "(" * 150 + "1" + ")" * 150 + " }}{{ " + "[" * 5000 + "]" * 5000 + " }}",
}


@pytest.mark.alone
@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_ends_at_its_deadline(own: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Whatever Jinja2 swallows while it compiles; and the next message does not wait for that template again."""
    monkeypatch.setattr(rendering_renderer, "RENDERING", 2.0)
    (own / SUBJECT).write_text(source)
    renderer = Renderer(TEMPLATES, own)
    begun = time.monotonic()
    parts, (note,) = mail(renderer)
    took = time.monotonic() - begun
    assert "timed out after 2 s; the built-in template was used" in note
    assert "– web1 " in parts[SUBJECT]
    assert 2 <= took < 4
    begun = time.monotonic()
    assert "timed out after 2 s" in mail(renderer)[1][0]
    assert time.monotonic() - begun < 1.5


@pytest.mark.alone
def test_what_all_templates_take_in_may_have_no_end(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is unknown then, so the built-in ones are used."""
    monkeypatch.setattr(rendering_renderer, "RENDERING", 2.0)
    (own / "shared").mkdir()
    (own / "shared/facts.txt").write_text(ENDLESS["loops"])
    begun = time.monotonic()
    parts, (note,) = mail(Renderer(TEMPLATES, own))
    assert "timed out after 2 s" in note
    assert TOLD in parts[BODY]
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("source", BLOATED.values(), ids=BLOATED)
def test_a_template_cannot_take_a_machine_s_memory(own: Path, source: str) -> None:
    """It ends at its limit; the built-in one takes its place."""
    (own / SUBJECT).write_text(source)
    parts, (note,) = mail(Renderer(TEMPLATES, own))
    assert note.startswith(f"template {SUBJECT}: ")
    assert "– web1 " in parts[SUBJECT]


def test_no_rendering_takes_more_than_its_share_of_memory(own: Path) -> None:
    """Measured from its own process: the peak of all that was rendered, before and after the limit.

    Its own peak is the kernel's VmHWM: RUSAGE_SELF keeps the peak of the process that started it, here all of pytest.
    """
    program = f"""
import re, resource
from pathlib import Path
from tests.rendering import test_template_files as here
for source in here.BLOATED.values():
    Path({str(own / SUBJECT)!r}).write_text(source)
    here.mail(here.Renderer(here.TEMPLATES, Path({str(own)!r})))
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10, int(peak) >> 10)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    peaks = [int(word) for word in ended.stdout.split()]
    assert len(peaks) == 2
    assert max(peaks) <= PEAK
    assert peaks[0] > peaks[1] + 30  # the limit was what ended them


def test_a_template_that_kills_its_process_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of Python's own, say, reached by a template."""
    monkeypatch.setattr(Renderer, "_render", lambda *_: os.kill(os.getpid(), 11))
    (own / SUBJECT).write_text("x")
    (own / BODY).write_text("x")
    with pytest.raises(TemplateError, match="signal 11"):
        Renderer(TEMPLATES, own).apart(lambda: Renderer(TEMPLATES, own).render([SUBJECT], {}))


def test_without_a_process_more_the_built_in_templates_are_used(own: Path) -> None:
    """A full process table costs the looks of the digest."""
    (own / SUBJECT).write_text("Mine")
    (own / BODY).write_text("Mine")
    renderer = Renderer(TEMPLATES, own)
    used = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, used[1]))
    try:
        parts, (note,) = mail(renderer)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, used)
    assert "cannot fork" in note
    assert TOLD in parts[BODY]


def test_built_in_templates_start_no_process(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built-in templates terminate; a folder without custom ones costs nothing either."""
    monkeypatch.setattr(isolation, "run", lambda *_, **__: pytest.fail("a process for nothing"))
    for renderer in (Renderer(TEMPLATES), Renderer(TEMPLATES, own), Renderer(TEMPLATES, own / "nowhere")):
        assert TOLD in mail(renderer)[0][BODY]


def test_a_template_of_ones_own_without_a_built_in_one_gives_json(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook's template that never ends: its receiver gets the digest as JSON."""
    monkeypatch.setattr(rendering_renderer, "RENDERING", 2.0)
    (own / "webhook").mkdir()
    (own / "webhook/mine.json").write_text(ENDLESS["a constant"])
    hook = Webhook.model_validate({"kind": "webhook", "url": "https://example.org", "template": "mine.json"})
    content, noted = delivery.fit(hook.needs, DIGEST, Renderer(TEMPLATES, own), lambda _: True)
    assert "timed out after 2 s; the digest was sent as JSON" in noted.notes[0]
    assert '"web1.example.org"' in hook.pack(content, STAMP).decode()
