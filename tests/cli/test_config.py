"""`f2b-digest config`: what it prints loads, names every key with its meaning, and --check tells every mistake."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from f2b_digest.channels import KINDS
from f2b_digest.channels.keys import keys_of
from f2b_digest.cli import reference
from f2b_digest.config import Report, Top, load
from f2b_digest.errors import ConfigurationError
from tests.support.program import Command

MODELS: dict[str, type[BaseModel]] = {
    "": Top,
    "reports.daily": Report,
    **{f"channels.{kind}": model for kind, model in KINDS.items()},
}
TOGETHER = re.compile(
    r"set (either|only|exactly)|and the reverse|needs? |smtp names|is missing|only for a fleet's centre"
)
"""What is wrong between two keys, or with a key left out: not with the value of the key that is tried."""


def test_the_printed_configuration_loads(f2b_digest: Command, tmp_path: Path) -> None:
    """As it is: all its settings are comments, but for the report that there is anyway."""
    printed = f2b_digest("config")
    assert (printed.status, printed.err) == (0, "")
    path = tmp_path / "config.toml"
    path.write_text(printed.out)
    assert tomllib.loads(printed.out) == {"reports": {"daily": {}}}
    assert f2b_digest("config", "--check", path).out == f"{path}: ok\n"


def test_every_key_of_every_model_is_printed_with_its_meaning() -> None:
    """A key that is not there does not exist for its reader, and one without a word is a riddle."""
    tables = {table.title: table for table in reference.tables()}
    assert set(tables) == set(MODELS)
    for title, model in MODELS.items():
        names = {field.alias or name for name, field in model.model_fields.items()}
        names |= {key for name in getattr(model, "secrets", ()) for key in keys_of(name)}
        assert {key.name for key in tables[title].keys} == names
        assert [key.name for key in tables[title].keys if not key.meaning or not key.type or not key.value] == []
        assert tables[title].meaning or not title


def test_the_whole_text_with_every_setting_is_toml() -> None:
    """A person who removes every # gets TOML with every key."""
    text = re.sub(r"^#(?=[^ \n])", "", reference.commented_configuration(), flags=re.MULTILINE)
    table = tomllib.loads(text)
    assert set(table["channels"]) == set(KINDS)
    assert set(table["reports"]["daily"]) == {*Report.model_fields, "ping_file", "ping_env"}
    assert set(table) - {"reports", "channels"} == set(Top.model_fields)


@pytest.mark.parametrize("title", MODELS)
def test_each_setting_loads_with_the_value_that_is_printed(title: str, tmp_path: Path) -> None:
    """One by one, beside what is required: the value itself is never what is wrong."""
    for table in reference.tables():
        if table.title == title:
            for key in table.keys:
                lines = [f"{other.name} = {other.value}" for other in table.keys if other.required and other != key]
                mistakes = mistakes_of(title, [*lines, f"{key.name} = {key.value}"], tmp_path)
                assert [mistake for mistake in mistakes if not TOGETHER.search(mistake)] == [], key.name


def mistakes_of(title: str, lines: list[str], folder: Path) -> list[str]:
    """Return the mistakes in a configuration of one table, whose report names channels that are there."""
    text = "\n".join([f"[{title}]" if title else "", *lines])
    if title == "reports.daily":
        text += "".join(f'\n[channels.{name}]\nkind = "file"\nfolder = "out"\n' for name in ("mail", "phone"))
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    try:
        load(path, host="web1", timezone="UTC")
    except ConfigurationError as error:
        return str(error).splitlines()
    return []


def test_check_tells_every_mistake(f2b_digest: Command, tmp_path: Path) -> None:
    """All of them at once, each with its place, and the status of a wrong configuration."""
    path = tmp_path / "config.toml"
    path.write_text('timezone = "Mars"\n[reports.daily]\nchanels = []\n[channels.a]\nkind = "pigeon"\n')
    checked = f2b_digest("config", "--check", path)
    assert (checked.status, checked.out) == (78, "")
    for place in ("timezone: ", "reports.daily.chanels: ", "channels.a.kind: "):
        assert f"{path}: {place}" in checked.err
    assert len(checked.err.splitlines()) == 3


def test_check_takes_the_configuration_in_use(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """Without FILE; where there is none, it says so instead of praising the built-in one."""
    assert f2b_digest("--config", config, "config", "--check").out == f"{config}: ok\n"
    nothing = f2b_digest("config", "--check")
    assert (nothing.status, nothing.out) == (78, "")
    assert "no configuration file" in nothing.err
    missing = f2b_digest("config", "--check", tmp_path / "gone.toml")
    assert (missing.status, missing.err) == (78, f"f2b-digest: {tmp_path / 'gone.toml'}: No such file or directory\n")


def test_a_warning_is_told_and_is_no_mistake(f2b_digest: Command, tmp_path: Path) -> None:
    """A secret that everybody can read does not stop a delivery."""
    path = tmp_path / "config.toml"
    path.write_text('[channels.a]\nkind = "webhook"\nurl = "https://hooks.example.org/"\n')
    path.chmod(0o644)
    checked = f2b_digest("config", "--check", path)
    assert (checked.status, checked.out) == (0, f"{path}: ok\n")
    assert "is world-readable" in checked.err


def test_a_file_without_check_is_a_usage_error(f2b_digest: Command) -> None:
    """Whoever forgets --check is told, instead of being shown something else."""
    assert f2b_digest("config", "config.toml").status == 2
