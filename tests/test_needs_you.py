"""From a real ban of a friend to the line that lifts it: what the digest says first can be typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from f2b_digest.cli import cli
from tests.fail2ban_server import Fail2ban
from tests.scenarios.world import read


def test_the_line_in_the_digest_lifts_the_ban(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague is locked out; the admin copies one line of the mail, and the colleague is back."""
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", tmp_path / "none.sqlite3")
    with Fail2ban("1.0") as server:
        server.jail("mail&in", bantime="86400")
        server.start()
        for address in ("203.0.113.77", "198.51.100.1"):
            server.log("mail&in", f'FAIL user="anna" from {address}')
        server.wait_until(lambda: len(server.events()) == 2, "both bans recorded")
        config = tmp_path / "config.toml"
        config.write_text(
            f'store = "{server.store}"\nfriends = ["203.0.113.0/24"]\nlanguage = "en"\n'
            '[reports.daily]\nchannels = ["box"]\n[channels.box]\nkind = "file"\nfolder = "box"\n'
        )
        with pytest.raises(SystemExit) as end:
            cli.main(["--config", str(config), "send"], standalone_mode=False)
        assert not end.value.code
        (file,) = (tmp_path / "box").iterdir()
        mail = read(file)
        assert "203.0.113.77" in mail.subject
        assert "198.51.100.1 " not in mail.head
        line = re.search(r"^ *(fail2ban-client .*)$", mail.text, re.MULTILINE)
        assert line, mail.text
        program, *words = shlex.split(line[1])
        assert program == "fail2ban-client"
        assert "203.0.113.77" in server.client("get", "mail&in", "banip")
        server.client(*words)
        banned = server.client("get", "mail&in", "banip")
        assert "203.0.113.77" not in banned
        assert "198.51.100.1" in banned
