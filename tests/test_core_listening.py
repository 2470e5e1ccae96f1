"""Sockets that pages and servers listen at."""

from __future__ import annotations

import asyncio
import socket

import pytest

from luhuo.core.listening import bound


def test_small_pieces_of_a_stream_wait_for_no_acknowledgement():
    async def option() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bound("127.0.0.1", 0)
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.close()
            return await found

    assert asyncio.run(option())


def test_a_taken_address_is_an_error_and_leaves_no_socket_open(recwarn: pytest.WarningsRecorder):
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OSError):
            bound(*taken.getsockname())
    assert not [one for one in recwarn if one.category is ResourceWarning]
