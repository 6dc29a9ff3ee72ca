"""Who an API server takes us for ➜ sessions that it lets in, for as long as they are needed.

In: what a kubeconfig says of a user (`users`), or the files that a pod's account lies in. Out: `ClusterCredentials`, whose sessions bear a
token or a certificate that is renewed when it runs out, or once the server answers 401; a call that was refused so was not carried out,
and is made again, once.

Sessions are aiohttp's; kubernetes_asyncio calls through them, but its own loader of kubeconfigs isn't used (36.1.0): it knows no end of a
plugin's certificates, runs a plugin anew for each call in a token's last five minutes and without any limit of time, never reads a
token's file again, and keeps certificates in files that all loaders of a process share, so that one's end takes the next one's away.

All sessions of one stand share one allowance of calls, as client-go's clients have: the API server serves others, too.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import anyio
import msgspec
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from otel_control_gym.engine.clock import SECOND, wall_now, wall_timer

__all__ = ("Allowance", "ClusterCredentials", "CredentialError", "Identity", "Source", "Token", "TokenFile")

CALLS_PER_SECOND = 20.0  #: in the long run, of all sessions of a stand: as Kubernetes' own controllers allow themselves
CALLS_AT_ONCE = 30
CONNECTIONS = 100  #: of one session; each watch occupies one for good
FILE_SECONDS = 60  #: after which a token's file is read again: a kubelet exchanges it when 80 % of its life are over
RENEWAL_SECONDS = 1  #: at least between two renewals: one that brings nothing better isn't repeated for each call
_EARLY_SECONDS = 10  #: before its end a credential is renewed, or in the last tenth of its life if that is shorter
_UNAUTHORIZED = 401


class CredentialError(aiohttp.ClientError):
    """Raised when there is nothing to be let in with; its text says whose it is and why."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown to the API server."""

    token: str = ""
    certificate: tuple[Path, Path] | None = None  #: of a client: files of the chain and of its key
    expires: int | None = None  #: [ns]; null: nobody said so


class Source(Protocol):
    """Where identities come from."""

    @property
    def renewable(self) -> bool:
        """Whether asking again may bring another identity."""
        ...

    async def identity(self) -> Identity:
        """Return what is valid now.

        Raises: CredentialError: there is none.
        """
        ...


class Token:
    """One that lasts for ever, a client's certificate, or both."""

    renewable = False

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def identity(self) -> Identity:
        """Return the same as always."""
        return self._identity


class TokenFile:
    """A file that somebody else renews, as a kubelet does a pod's."""

    renewable = True

    def __init__(self, path: Path, certificate: tuple[Path, Path] | None = None) -> None:
        self._path, self._certificate = path, certificate

    async def identity(self) -> Identity:
        """Return what the file says now, for a minute.

        Raises: CredentialError: it can't be read, or is empty.
        """
        try:
            token = (await anyio.Path(self._path).read_text()).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialError(f"the token's file can't be read: {error}") from error
        if not token:
            raise CredentialError(f"the token's file is empty: {self._path}")
        return Identity(token=token, certificate=self._certificate, expires=wall_now() + FILE_SECONDS * SECOND)


class Allowance:
    """Calls per second, and how many more at once after a rest (a token bucket); waiting calls go in the order in which they came."""

    def __init__(self, per_second: float = CALLS_PER_SECOND, at_once: int = CALLS_AT_ONCE) -> None:
        self._per_second, self._at_once = per_second, float(at_once)
        self._left, self._looked = float(at_once), wall_timer()
        self._turn = anyio.Lock()  # protects the count, and keeps the order

    async def take(self) -> None:
        """Return when one more call may be made."""
        async with self._turn:
            while True:
                now = wall_timer()
                self._left = min(self._at_once, self._left + (now - self._looked) * self._per_second)
                self._looked = now
                if self._left >= 1.0:
                    self._left -= 1.0
                    return
                await anyio.sleep((1.0 - self._left) / self._per_second)


class ClusterCredentials:
    """Sessions for one API server."""

    def __init__(
        self,
        source: Source,
        tls: ssl.SSLContext,
        *,
        proxy: str = "",
        server_name: str = "",
        headers: Sequence[tuple[str, str]] = (),
        allowance: Allowance | None = None,
    ) -> None:
        """Take an identity's source, whom to trust, and the way.

        Args:
            tls: bears a client's certificate from when there is one.
            proxy: URL; empty: none, whatever the environment says.
            server_name: that the server's certificate bears; empty: that of its URL.
            headers: of each call, such as those of impersonation.
            allowance: of all sessions together; default: the usual one.
        """
        self._source, self._tls = source, tls
        self._proxy, self._server_name = proxy, server_name
        self._headers = list(headers)
        self._allowance = allowance or Allowance()
        self._renewal = anyio.Lock()  # protects the identity: one renewal at a time, whose outcome all that wait share
        self._identity: Identity | None = None
        self._due = 0  # [ns] when the identity is to be renewed
        self._renewed = 0  # [ns] when it was

    def session(self, seconds: float | None = None) -> aiohttp.ClientSession:
        """Return a session for calls to the API server and to nothing else; whoever asked closes it."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._tls),
            headers=self._headers,
            proxy=self._proxy or None,
            timeout=aiohttp.ClientTimeout(total=seconds),
            trust_env=False,
            middlewares=(self._admit,),
        )

    async def _admit(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Make a call as who we are now; if the server doesn't know that one any more, once more as who we are then."""
        if self._server_name:
            request.server_hostname = self._server_name
        shown = await self._show(request)
        await self._allowance.take()
        response = await handler(request)
        if response.status != _UNAUTHORIZED or not self._source.renewable:
            return response
        if await self._show(request, refused=shown) is shown:
            return response
        response.close()
        await self._allowance.take()
        return await handler(request)

    async def _show(self, request: ClientRequest, refused: Identity | None = None) -> Identity:
        identity = await self._valid(refused)
        if identity.token:
            request.headers["Authorization"] = f"Bearer {identity.token}"
        if identity.certificate is not None and self._source.renewable:
            # A certificate is shown once per connection: the next call may have another one.
            request.headers["Connection"] = "close"
        return identity

    async def _valid(self, refused: Identity | None) -> Identity:
        async with self._renewal:
            before, now = self._identity, wall_now()
            worn = before is None or now >= self._due or before is refused
            if before is not None and (not worn or now < self._renewed + RENEWAL_SECONDS * SECOND):
                return before
            found = await self._source.identity()
            self._renewed = now
            self._due = _due(found, now)
            if found == before:
                return before
            if found.certificate is not None and (before is None or found.certificate != before.certificate):
                self._bear(*found.certificate)
            self._identity = found
            return found

    def _bear(self, chain: Path, key: Path) -> None:
        try:
            self._tls.load_cert_chain(chain, key)
        except (OSError, ssl.SSLError) as error:
            raise CredentialError(f"the client's certificate can't be used: {chain}, {key}: {error}") from error


def _due(identity: Identity, now: int) -> int:
    """Return when an identity is to be renewed [ns]."""
    if identity.expires is None:
        return 2**63
    return identity.expires - min(_EARLY_SECONDS * SECOND, max(0, identity.expires - now) // 10)
