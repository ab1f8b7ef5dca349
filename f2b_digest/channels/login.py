"""What the services with a login share: a token, or a user and a password, for the Authorization header."""

import base64
from typing import Self

from pydantic import model_validator

from f2b_digest.channels.base import Channel
from f2b_digest.channels.keys import Secret


class Login(Channel):
    """A channel that can log in."""

    token: Secret | None = None
    """Access token, for "Authorization: Bearer". Example: "tk_0123456789"."""
    user: str | None = None
    """User name, for "Authorization: Basic". Example: "f2b"."""
    password: Secret | None = None
    """Password of user. Example: "secret"."""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.token and (self.user or self.password):
            raise ValueError("set either a token or a user, not both")
        if bool(self.user) != bool(self.password):
            raise ValueError("user needs password or password_file, and the reverse")
        return self

    def authorization(self) -> tuple[dict[str, str], list[str]]:
        """Return the header, if there is a login, and its secrets as a server may repeat them. Raises DeliveryError."""
        token = self.token.for_header("token") if self.token else None
        password = self.password.reveal() if self.password else None
        if token:
            return {"Authorization": f"Bearer {token}"}, [token]
        if self.user and password:
            pair = base64.b64encode(f"{self.user}:{password}".encode()).decode("ascii")
            return {"Authorization": f"Basic {pair}"}, [pair, password]
        return {}, []
