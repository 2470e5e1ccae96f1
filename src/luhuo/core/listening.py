"""A socket bound to an address, for pages and servers."""

from __future__ import annotations

import socket


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket bound to the address; port 0: any that is free. Raises `OSError`.

    The protocol is named, not left at 0: asyncio sets TCP_NODELAY only where it is. Without that, a small piece of a
    stream waits until the one before it was acknowledged, up to 40 ms (RFC 896; delayed acknowledgements, RFC 1122).
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
