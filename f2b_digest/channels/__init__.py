"""The registry of channels: one file here and one line below for each kind. A kind is imported when it is asked for."""

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from f2b_digest.channels.base import Channel


class _Kinds(UserDict[str, "type[Channel]"]):
    """The class of each kind of channel; all of them take as long to import as the rest of the program."""

    def __getitem__(self, kind: str) -> "type[Channel]":
        """Return a kind's class. Raises KeyError."""
        found: Any = self.data[kind]
        if isinstance(found, str):
            module, name = found.split(".")
            found = self.data[kind] = getattr(import_module(f"f2b_digest.channels.{module}"), name)
        made: type[Channel] = found
        return made


_WHERE: Any = {
    "abuseipdb": "abuseipdb.AbuseIPDB",
    "apprise": "apprise.Apprise",
    "command": "command.Command",
    "email": "email.Email",
    "file": "file.File",
    "free-mobile": "free_mobile.FreeMobile",
    "ntfy": "ntfy.Ntfy",
    "syslog": "syslog.Syslog",
    "webhook": "webhook.Webhook",
}
KINDS = _Kinds(_WHERE)
