"""The registry of channels: one file here and one line below for each kind. A kind is imported when it is asked for."""

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from f2b_digest.channels.base import Channel


class _Kinds(UserDict[str, "type[Channel]"]):
    """The class of each kind of channel; importing all of them takes 0.2 s of CPU."""

    def __getitem__(self, kind: str) -> "type[Channel]":
        """Return a kind's class. Raises KeyError."""
        found: Any = self.data[kind]
        if isinstance(found, str):
            module, name = found.split(".")
            found = self.data[kind] = getattr(import_module(f"f2b_digest.channels.{module}"), name)
        made: type[Channel] = found
        return made


KINDS = _Kinds(
    cast(
        "Any",
        {
            "abuseipdb": "abuseipdb.AbuseIPDB",
            "apprise": "apprise.Apprise",
            "command": "command.Command",
            "email": "email.Email",
            "file": "file.File",
            "free-mobile": "free_mobile.FreeMobile",
            "ntfy": "ntfy.Ntfy",
            "syslog": "syslog.Syslog",
            "webhook": "webhook.Webhook",
        },
    )
)
