"""The registry of channels: one file here and one line below for each kind."""

from f2b_digest.channels.abuseipdb import AbuseIPDB
from f2b_digest.channels.apprise import Apprise
from f2b_digest.channels.base import Channel
from f2b_digest.channels.command import Command
from f2b_digest.channels.email import Email
from f2b_digest.channels.file import File
from f2b_digest.channels.free_mobile import FreeMobile
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.channels.syslog import Syslog
from f2b_digest.channels.webhook import Webhook

KINDS: dict[str, type[Channel]] = {
    "abuseipdb": AbuseIPDB,
    "apprise": Apprise,
    "command": Command,
    "email": Email,
    "file": File,
    "free-mobile": FreeMobile,
    "ntfy": Ntfy,
    "syslog": Syslog,
    "webhook": Webhook,
}
