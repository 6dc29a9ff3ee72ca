"""By which proxy a server is reached: that which its kubeconfig names, or the environment's (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).

As kubectl does it: this machine itself never lies behind a proxy of the environment, and NO_PROXY may name networks.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from otel_control_gym.engine.errors import UsageError

__all__ = ("proxy_for",)


def proxy_for(server: str, named: str = "") -> str:
    """Return the URL of the proxy through which a server's URL is reached; empty: none.

    Args:
        server: URL of the API server.
        named: the kubeconfig's `proxy-url`, which counts whatever the environment says.

    Raises: UsageError: that proxy is of a kind that isn't spoken.
    """
    proxy, origin = (named, "proxy-url") if named else (_of_environment(server), "the environment's proxy")
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise UsageError(
            f"{origin} = {proxy!r}: only HTTP proxies are spoken\n  name one as http://HOST:PORT, or none and have the server reachable"
        )
    return proxy


def _of_environment(server: str) -> str:
    parts = urlsplit(server)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme, "")
    left_out = [word.strip() for word in proxies.get("no", "").split(",")]
    if not proxy or _is_here(host) or any(_is_in(host, parts.port, word) for word in left_out if word):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_in(host: str, port: int | None, word: str) -> bool:
    """Return whether a word of NO_PROXY means a host: `*`, a network, a domain with all below it (`.domain`: only those), `…:port`."""
    if word == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False)
    except ValueError:
        name, _, only = word.lower().partition(":")
        domain = name.removeprefix("*").removeprefix(".")
        meant = host == name or host.endswith(f".{domain}")
        return meant and (not only or only == str(port))
