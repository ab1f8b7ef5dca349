"""Adding a channel touches nothing else, and features that every channel gets: a priority, templates."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from f2b_digest.channels import KINDS
from f2b_digest.channels.base import Channel
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp
from tests import ROOT
from tests.channels.kinds import row_of
from tests.support.program import Command
from tests.support.store_making import event, fill, query

PACKAGE = ROOT / "f2b_digest"
DEFAULTS = {"cli/output.py": {"email", "ntfy"}, "cli/show.py": {"ntfy"}, "rdap.py": {"email"}}
"""`--format` of `preview` and `show` is what these two would send with their defaults; RDAP has a field `email`."""


class Pigeon(Channel):
    """A kind that only this test knows."""

    flight: ClassVar[Path]
    """Where the notes are kept that arrived: each flight is its own process."""
    kind: Literal["pigeon"]
    loft: str
    tired: bool = False

    @property
    def needs(self) -> Needs:
        """The note at its leg."""
        return Needs(("pigeon/note.txt",))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the loft."""
        return (self.loft,)

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Carry 40 bytes."""
        return len(content.parts["pigeon/note.txt"]) <= 40

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the note."""
        return content.parts["pigeon/note.txt"].encode()

    def deliver(self, message: Message) -> None:
        """Fly."""
        if self.tired:
            raise DeliveryError("no wind today", permanent=False)
        with self.flight.open("a") as notes:
            notes.write(message.body.decode() + "\n")

    @classmethod
    def flown(cls) -> list[bytes]:
        """Return the notes that arrived."""
        return cls.flight.read_bytes().splitlines()


@pytest.fixture
def pigeon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Pigeon]:
    """Add the kind as a person would: a class, a line in the registry, a template."""
    monkeypatch.setitem(KINDS, "pigeon", Pigeon)
    monkeypatch.setattr(Pigeon, "flight", tmp_path / "flown", raising=False)
    Pigeon.flight.touch()
    note(tmp_path / "own", "{{ report }} {{ totals.bans }}{% for jail in jails %} {{ jail.name }}{% endfor %}")
    return Pigeon


def note(folder: Path, template: str) -> None:
    """Write the template of a pigeon's note."""
    (folder / "pigeon").mkdir(parents=True)
    (folder / "pigeon" / "note.txt").write_text(template)


def configure(path: Path, channels: Mapping[str, Any], **reports: Any) -> Path:
    """Write a configuration beside the store; without reports, `daily` goes by all channels."""
    lines = [f'store = "{path}"', 'host = "web1"', 'timezone = "UTC"', 'templates = "own"']
    tables = {f"channels.{name}": keys for name, keys in channels.items()}
    for name, keys in (reports or {"daily": {}}).items():
        tables[f"reports.{name}"] = {"channels": list(channels)} | keys
    for table, keys in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    config = path.parent / "contract.toml"
    config.write_text("\n".join(lines) + "\n")
    config.chmod(0o600)
    return config


def ban(path: Path, count: int, *, first: int = 1, jail: str = "sshd") -> None:
    """Ban this many addresses."""
    fill(path, [event(ip=f"192.0.2.{number}", jail=jail) for number in range(first, first + count)])


# ---- a kind more


def test_a_new_kind_works_everywhere(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """Configuration, preview, send, retry, status, history and show know it, and no other file was touched."""
    ban(path, 3)
    config = configure(path, {"out": {"kind": "pigeon", "loft": "roof", "tired": True}})
    out = path.parent / "previewed"
    assert f2b_digest("--config", config, "preview", "--channel", "out", "--output", out).status == 0
    sent = f2b_digest("--config", config, "send")
    assert (sent.status, "out to roof: deferred" in sent.err, "no wind today" in sent.err) == (75, True, True)
    assert "no wind today" in f2b_digest("--config", config, "status").out
    configure(path, {"out": {"kind": "pigeon", "loft": "roof"}})
    query(path, "UPDATE delivery SET next_at = 0")
    assert f2b_digest("--config", config, "retry").status == 0
    assert [*pigeon.flown(), out.read_bytes()] == [b"daily 3 sshd"] * 2
    assert "roof" in f2b_digest("--config", config, "history").out
    show = f2b_digest("--config", config, "show", "1", "--format", "raw", "--output", out)
    assert (show.status, out.read_bytes()) == (0, b"daily 3 sshd")


def test_mistakes_in_a_new_kinds_settings_are_told(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """With the place, and with what there is."""
    config = configure(path, {"a": {"kind": "pigeon"}, "b": {"kind": "pigeno"}, "c": {"kind": "pigeon", "lofd": "x"}})
    told = f2b_digest("--config", config, "send")
    assert told.status == 78
    assert "channels.a.loft: is missing" in told.err
    assert "did you mean pigeon?" in told.err
    assert "did you mean loft?" in told.err


def test_a_new_kinds_limits_leave_rows_out(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """What `fits` says is kept, as for every other kind."""
    for number in range(10):
        ban(path, 1, jail=f"jail-{number}")
    f2b_digest("--config", configure(path, {"out": {"kind": "pigeon", "loft": "roof"}}), "send")
    assert pigeon.flown() == [b"daily 10 jail-0 jail-1 jail-2"]


def test_no_other_module_names_a_kind() -> None:
    """Neither as a string nor by an import: otherwise adding a kind would mean changing that module."""
    files = {name.replace("-", "_") for name in KINDS}
    for module in PACKAGE.rglob("*.py"):
        place = str(module.relative_to(PACKAGE))
        if place.startswith("channels/"):
            continue
        named = set()
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= {node.value} & set(KINDS)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("f2b_digest.channels"):
                named |= {(node.module or "").rpartition(".")[2], *(alias.name for alias in node.names)} & files
        assert named <= DEFAULTS.get(place, set()), f"{place} names {named}"


# ---- what every channel gets


@pytest.mark.parametrize("kind", KINDS)
def test_preview_shows_what_is_sent_byte_for_byte(kind: str, f2b_digest: Command, path: Path, tmp_path: Path) -> None:
    """But for the digest's id, which is made when it is sealed."""
    fill(path, [event(ip="9.9.9.9", users=["root"]), event(ip="9.9.9.9", jail="nginx-botsearch", failures=4)])
    with row_of(kind).provoke("sent", tmp_path) as settings:
        config = configure(path, {"out": {"kind": kind} | settings})
        previewed = f2b_digest("--config", config, "preview", "--channel", "out", "--output", tmp_path / "previewed")
        assert previewed.status == 0, previewed.err
        sent = f2b_digest("--config", config, "send")
        assert sent.status == 0, sent.err
        ((body, uuid),) = query(path, "SELECT message, uuid FROM delivery JOIN digest ON digest.id = digest_id")
        seen = KINDS[kind].model_validate({"kind": kind} | settings).wire(body)
    assert (tmp_path / "previewed").read_bytes() == seen.replace(uuid.encode(), b"0" * 32)


def test_the_phone_only_buzzes_for_what_matters(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """A digest below a channel's min_bans goes to the others, and is not kept for it."""
    config = configure(
        path,
        {"mail": {"kind": "pigeon", "loft": "mail"}, "phone": {"kind": "pigeon", "loft": "phone", "min_bans": 3}},
    )
    for first, count in ((1, 2), (3, 3)):
        ban(path, count, first=first)
        assert f2b_digest("--config", config, "send").status == 0
    deliveries = query(path, "SELECT digest_id, recipient FROM delivery ORDER BY id")
    assert deliveries == [(1, "mail"), (2, "mail"), (2, "phone")]
    assert pigeon.flown() == [b"daily 2 sshd", b"daily 3 sshd", b"daily 3 sshd"]


def test_what_no_channel_would_tell_stays_pending(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """Where all channels want more, nothing is marked as reported; the next bans bring the first ones along."""
    config = configure(path, {"phone": {"kind": "pigeon", "loft": "phone", "min_bans": 3}})
    ban(path, 2)
    assert f2b_digest("--config", config, "send").status == 0
    assert (pigeon.flown(), query(path, "SELECT id FROM digest")) == ([], [])
    assert "2 bans pending" in f2b_digest("--config", config, "status").out
    ban(path, 1, first=3)
    f2b_digest("--config", config, "send")
    assert pigeon.flown() == [b"daily 3 sshd"]


def test_a_quiet_digest_goes_to_channels_without_a_threshold(
    pigeon: type[Pigeon], f2b_digest: Command, path: Path
) -> None:
    """That nothing was banned is for the mail, not for the phone."""
    config = configure(
        path,
        {"mail": {"kind": "pigeon", "loft": "mail"}, "phone": {"kind": "pigeon", "loft": "phone", "min_bans": 1}},
        daily={"quiet": "send"},
    )
    fill(path, [event(kind="unban")])
    assert f2b_digest("--config", config, "send").status == 0
    assert query(path, "SELECT recipient, status FROM delivery") == [("mail", "sent")]


def test_a_report_has_templates_of_its_own(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """Its folder goes before the configuration's, for preview and send alike; other reports do not see it."""
    note(path.parent / "weekly", "the week: {{ totals.bans }}")
    config = configure(path, {"out": {"kind": "pigeon", "loft": "roof"}}, daily={}, weekly={"templates": "weekly/"})
    ban(path, 3)
    out = path.parent / "previewed"
    f2b_digest("--config", config, "preview", "weekly", "--channel", "out", "--output", out)
    f2b_digest("--config", config, "send")
    assert pigeon.flown() == [b"daily 3 sshd", b"the week: 3"]
    assert out.read_bytes() == b"the week: 3"


def test_channels_of_one_kind_stand_side_by_side(pigeon: type[Pigeon], f2b_digest: Command, path: Path) -> None:
    """Each with its settings, its deliveries and its troubles."""
    lofts = {"roof": {"kind": "pigeon", "loft": "roof", "tired": True}, "barn": {"kind": "pigeon", "loft": "barn"}}
    ban(path, 1)
    assert f2b_digest("--config", configure(path, lofts), "send").status == 75
    deliveries = query(path, "SELECT channel, recipient, status FROM delivery ORDER BY id")
    assert deliveries == [("roof", "roof", "deferred"), ("barn", "barn", "sent")]


@pytest.mark.parametrize("kind", ["apprise", "ntfy", "syslog"])
def test_a_heavy_digest_weighs_more(kind: str, f2b_digest: Command, path: Path, tmp_path: Path) -> None:
    """The kinds that have a priority or a level raise it from `urgent_from` on, and not before."""
    seen = []
    ban(path, 5)
    with row_of(kind).provoke("sent", tmp_path) as settings:
        for urgent_from in (6, 5):
            config = configure(path, {"out": {"kind": kind, "urgent_from": urgent_from} | settings})
            f2b_digest("--config", config, "preview", "--channel", "out", "--output", tmp_path / "previewed")
            seen.append((tmp_path / "previewed").read_text())
    light, heavy = {
        "apprise": ("info\n", "warning\n"), "ntfy": ('"priority": 3', '"priority": 5'), "syslog": ("<29>", "<28>"),
    }[kind]  # fmt: skip
    assert light in seen[0]
    assert heavy in seen[1]
