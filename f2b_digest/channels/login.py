"""What the services with a login share: a token, or a user and a password, for the Authorization header."""

import base64
from typing import ClassVar, Self

from pydantic import SecretStr, model_validator

from f2b_digest.channels.base import Channel, EnvironmentVariable, SecretFile
from f2b_digest.errors import DeliveryError


class Login(Channel):
    """A channel that can log in."""

    secrets: ClassVar[tuple[str, ...]] = ("token", "password")

    token: SecretStr | None = None
    """Access token, for "Authorization: Bearer". Example: "tk_0123456789"."""
    token_file: SecretFile | None = None
    token_env: EnvironmentVariable | None = None
    user: str | None = None
    """User name, for "Authorization: Basic". Example: "f2b"."""
    password: SecretStr | None = None
    """Password of user. Example: "secret"."""
    password_file: SecretFile | None = None
    password_env: EnvironmentVariable | None = None

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.has_secret("token") and (self.user or self.has_secret("password")):
            raise ValueError("a token and a user: give one of them")
        if bool(self.user) != self.has_secret("password"):
            raise ValueError("user and password (or password_file) go together")
        return self

    def authorization(self) -> tuple[dict[str, str], list[str]]:
        """Return the header, if there is a login, and its secrets as a server may repeat them. Raises DeliveryError."""
        token, password = self.reveal("token"), self.reveal("password")
        if token:
            if not token.isascii():
                raise DeliveryError("the token holds a character that is not ASCII", permanent=self.token is not None)
            return {"Authorization": f"Bearer {token}"}, [token]
        if self.user and password:
            pair = base64.b64encode(f"{self.user}:{password}".encode()).decode("ascii")
            return {"Authorization": f"Basic {pair}"}, [pair, password]
        return {}, []
