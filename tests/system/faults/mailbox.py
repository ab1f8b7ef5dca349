"""A sendmail program: takes a mail from its input into a new file of a folder, on disk when it ends."""

import os
import sys
import tempfile


def main(folder: str, recipient: str) -> None:
    """Deliver one mail."""
    mail = sys.stdin.buffer.read()
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"Delivered-To: " + recipient.encode() + b"\n" + mail)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, os.path.join(folder, os.path.basename(temporary)[1:]))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[-1])
    except OSError as error:  # a fault struck it: a mailer says so in a line
        sys.exit(f"mailbox: {error}")
