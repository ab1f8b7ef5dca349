"""The registry of the ways out: a channel is one file here and one line below."""

from f2b_digest.channels.base import Channel
from f2b_digest.channels.email import Email
from f2b_digest.channels.file import File
from f2b_digest.channels.ntfy import Ntfy

KINDS: dict[str, type[Channel]] = {
    "email": Email,
    "file": File,
    "ntfy": Ntfy,
}
