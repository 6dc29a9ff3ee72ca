"""HTTP sessions to a stand's services, whichever way they are reached.

In: where the stand is, the URL of one of its services. Out: a session. A service behind the API server's proxy
(`…/services/NAME:PORT/proxy`) wants what the API server wants: our credentials and its authority. Any other URL gets neither: a token
opens the whole stand, and isn't shown to whoever answers at an address that somebody typed.
"""

from __future__ import annotations

import ssl

import aiohttp

from otel_control_gym.engine.protocols import Endpoints

__all__ = ("service_session",)


def service_session(endpoints: Endpoints, url: str, seconds: float) -> aiohttp.ClientSession:
    """Return a session to the service at a URL; an answer may take `seconds`. Call it in an event loop, and leave it as a context."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    within = url.startswith(f"{endpoints.kubernetes}/")
    if within and endpoints.kubernetes_credentials is not None:
        return endpoints.kubernetes_credentials.session(seconds)
    if not (within and endpoints.kubernetes_token):
        return aiohttp.ClientSession(timeout=timeout)
    headers = {"Authorization": f"Bearer {endpoints.kubernetes_token}"}
    if not endpoints.kubernetes_ca_file:
        return aiohttp.ClientSession(timeout=timeout, headers=headers)
    tls = ssl.create_default_context(cafile=endpoints.kubernetes_ca_file)
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the usual cluster CA has no key identifiers
    return aiohttp.ClientSession(timeout=timeout, headers=headers, connector=aiohttp.TCPConnector(ssl=tls))
