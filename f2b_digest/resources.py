"""Where the files beside the code are: templates, the cron file, fail2ban's actions. Nothing is read here."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
CREDENTIAL = "fleet.toml"
"""What `fleet join` leaves beside the configuration."""


def folder(name: str) -> Path:
    """Return the folder `templates`, `cron` or `action.d`: in an installed package, else beside it in a checkout."""
    installed = _PACKAGE / "data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def packaged() -> bool:
    """Return whether this program is part of a system's package, which brings the action, the units and the user."""
    return (_PACKAGE / "data/package").exists()
