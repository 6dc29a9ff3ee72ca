"""Credential plugins (`users[].user.exec` of a kubeconfig): a program that is run and says who we are, for a while.

In: the program, and the cluster it is for. Out: an `Identity`, of what it prints: an ExecCredential (client.authentication.k8s.io/v1 or
v1beta1) with a token, or a client's certificate with its key, and when they end. It is run in a process of its own, without a terminal.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.cluster.credentials import CredentialError, Identity

__all__ = ("Plugin", "PluginSection")

PLUGIN_SECONDS = 60.0  #: wall time that a plugin may take
_SHOWN = 300  #: characters of what it says when it fails


class Variable(msgspec.Struct):
    """Of its environment, beside ours."""

    name: str
    value: str


class PluginSection(msgspec.Struct, rename="camel"):
    """`exec` of a kubeconfig's user."""

    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    command: str
    args: list[str] | None = None
    env: list[Variable] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: Literal["Never", "IfAvailable", "Always"] = "IfAvailable"


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: Literal["ExecCredential"]
    status: _Status


class Plugin:
    """Runs the program whenever an identity is wanted; `folder` is where certificates lie."""

    renewable = True

    def __init__(self, section: PluginSection, home: Path, folder: Path, cluster: Mapping[str, Any]) -> None:
        """Take a section of a kubeconfig in the folder `home`; `cluster` is what a plugin is told of the server if it wants that."""
        self._section, self._folder = section, folder
        self._cluster = cluster if section.provide_cluster_info else None
        relative = os.sep in section.command and not Path(section.command).is_absolute()
        self._command = str(home / section.command) if relative else section.command
        self._runs = 0

    async def identity(self) -> Identity:
        """Run the program.

        Raises: CredentialError: it can't be run, fails, takes too long, or prints something else.
        """
        section = self._section
        given = {variable.name: variable.value for variable in section.env or ()}
        try:
            with anyio.fail_after(PLUGIN_SECONDS):
                done = await anyio.run_process(
                    [self._command, *(section.args or ())],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **given, "KUBERNETES_EXEC_INFO": self._asked()},
                    check=False,
                )
        except TimeoutError:
            raise self._failure(f"didn't end within {PLUGIN_SECONDS:g} s") from None
        except OSError as error:
            hint = f"\n  {section.install_hint.strip()}" if section.install_hint else ""
            raise self._failure(f"can't be run: {error}{hint}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_SHOWN:]
            raise self._failure(f"ended with {done.returncode}" + (f": {said}" if said else ""))
        return await self._identity_of(done.stdout)

    def _asked(self) -> str:
        spec: dict[str, Any] = {"interactive": False}
        if self._cluster is not None:
            spec["cluster"] = self._cluster
        document = {"apiVersion": self._section.api_version, "kind": "ExecCredential", "spec": spec}
        return msgspec.json.encode(document).decode()

    async def _identity_of(self, printed: bytes) -> Identity:
        try:
            credential = msgspec.json.decode(printed, type=_Credential)
        except msgspec.DecodeError as error:  # its text names what is wrong, and nothing of what was printed
            raise self._failure(f"printed no ExecCredential: {error}") from error
        if credential.api_version != self._section.api_version:
            raise self._failure(f"speaks {credential.api_version}, the kubeconfig wants {self._section.api_version}")
        status = credential.status
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise self._failure("gave one of a certificate and its key, both are needed")
        if not status.token and not status.client_certificate_data:
            raise self._failure("gave neither a token nor a certificate")
        expires = status.expiration_timestamp
        return Identity(
            token=status.token,
            certificate=await self._written(status) if status.client_certificate_data else None,
            expires=None if expires is None else round(expires.timestamp()) * SECOND,
        )

    async def _written(self, status: _Status) -> tuple[Path, Path]:
        """Write a certificate and its key where nobody else reads them."""
        self._runs += 1
        chain, key = (self._folder / f"plugin-{self._runs}.{kind}" for kind in ("crt", "key"))
        for path, text in ((chain, status.client_certificate_data), (key, status.client_key_data)):
            file = anyio.Path(path)
            await file.touch(mode=0o600)
            await file.write_text(text)
        return chain, key

    def _failure(self, why: str) -> CredentialError:
        return CredentialError(f"the credential plugin {self._command} {why}")
