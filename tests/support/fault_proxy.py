"""A proxy that makes an S3 server misbehave, by a seeded schedule. Plain HTTP, in a thread of its own.

    with running_s3() as server, FaultProxy(server.endpoint_url, seed=7, rate=0.1) as proxy:
        bucket = proxy.bucket(server.make_bucket())  # the same bucket, reached through the proxy
        storage = Storage.open(bucket.url, bucket.options)
        ...
        with proxy.down():  # connections are refused, open ones are reset: the server is gone
            ...
        proxy.rate = 0.0  # from now on it lets everything through
        proxy.inject(Fault.LOSE_REPLY, method="PUT")  # ... but the next PUT
        print(proxy.counts)  # {"requests": 1234, "slow_down": 17, ...}

Whether the n-th request has a fault, and which one, depends on the seed and n alone. No fault carries a request out
twice, and none changes bytes: what arrives is right, or visibly cut off, or an error. Processes other than the one
that made the proxy reach it by `proxy.endpoint_url`; it ends with that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.s3 import S3Bucket

_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends RST instead of FIN


class Fault(StrEnum):
    """What happens to a request."""

    SLOW_DOWN = "slow_down"  # 503 SlowDown; the server never sees it
    INTERNAL_ERROR = "internal_error"  # 500 InternalError; the server never sees it
    DROP = "drop"  # the connection is closed without a reply; the server never sees it
    CUT_UPLOAD = "cut_upload"  # reset in the middle of the request's body; the server never sees it
    DELAY = "delay"  # carried out late
    TRUNCATE = "truncate"  # carried out; the reply ends in the middle of its body
    LOSE_REPLY = "lose_reply"  # carried out; reset before a byte of the reply
    STALL = "stall"  # no reply until the client gives up; the server never sees it


_QUICK = tuple(fault for fault in Fault if fault is not Fault.STALL)


class FaultProxy:
    """A running proxy from `with` to its end."""

    def __init__(
        self,
        upstream_url: str,
        *,
        seed: int,
        rate: float = 0.1,
        faults: Collection[Fault] = _QUICK,
        delay_s: float = 0.2,
    ) -> None:
        """
        Args:
            rate: share of the requests that have a fault; may be set while it runs.
            faults: those that may happen; by default all but `STALL`, which lasts as long as the client's time-out.
            delay_s: the longest delay.
        """
        upstream = urlsplit(upstream_url)
        self._upstream = (upstream.hostname or "127.0.0.1", upstream.port or 80)
        self.seed = seed
        self.rate = rate
        self.faults = tuple(faults)
        self.delay_s = delay_s
        self.counts: Counter[str] = Counter()
        self._injected: list[tuple[Fault, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def bucket(self, bucket: S3Bucket) -> S3Bucket:
        """The same bucket, reached through the proxy."""
        return S3Bucket(name=bucket.name, options=bucket.options | {"endpoint_url": self.endpoint_url})

    def inject(self, fault: Fault, *, method: str) -> None:
        """Gives this fault to the next request of a method, such as "PUT"; may be called often, each counts once."""
        self._injected.append((fault, method))

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Meanwhile connections are refused, as if the server's process were gone; open ones are reset."""
        self._run(self._stop_listening())
        try:
            yield
        finally:
            self._run(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    # All below runs on the proxy's own loop.

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _stop_listening(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request and its reply, or what becomes of them."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            _reset(writer)  # the client, the server or the test has had enough
        finally:
            writer.close()
            self._connections.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method = head.partition(b" ")[0].decode()
        self.counts["requests"] += 1
        fault = self._fault(method, self.counts["requests"])
        if fault is not None:
            self.counts[fault.value] += 1
        if fault is Fault.DROP:
            return
        headers = _headers(head)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
        if fault is Fault.CUT_UPLOAD:
            await reader.read(int(headers.get(b"content-length", b"0")) // 2)
            _reset(writer)
            return
        body = await _read_body(headers, reader)
        if fault is Fault.STALL:
            await reader.read()
            return
        if fault is Fault.SLOW_DOWN:
            reply = _error_reply(503, "SlowDown", "Please reduce your request rate.", method)
        elif fault is Fault.INTERNAL_ERROR:
            reply = _error_reply(500, "InternalError", "We encountered an internal error.", method)
        else:
            if fault is Fault.DELAY:
                await asyncio.sleep(self._random(self.counts["requests"]).uniform(0, self.delay_s))
            reply = await self._carry_out(head, body)
        if fault is Fault.LOSE_REPLY:
            _reset(writer)
            return
        if fault is Fault.TRUNCATE:
            body_at = reply.index(b"\r\n\r\n") + 4
            reply = reply[: max(body_at - 10, (body_at + len(reply)) // 2)]
        writer.write(reply)
        await writer.drain()

    def _fault(self, method: str, number: int) -> Fault | None:
        for fault, wanted in self._injected:
            if wanted == method:
                self._injected.remove((fault, wanted))
                return fault
        chance = self._random(number)
        if not self.faults or chance.random() >= self.rate:
            return None
        fault = chance.choice(self.faults)
        return Fault.DROP if fault is Fault.CUT_UPLOAD and method != "PUT" else fault

    def _random(self, number: int) -> random.Random:
        return random.Random(f"{self.seed}-{number}")

    async def _carry_out(self, head: bytes, body: bytes) -> bytes:
        """The server's whole reply, as it came."""
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith((b"expect:", b"connection:"))]
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(b"\r\n".join([*kept, b"Connection: close", b"", body]))
            await writer.drain()
            return await reader.read(-1)  # to its end, which `Connection: close` asked for
        finally:
            writer.close()


def _headers(head: bytes) -> dict[bytes, bytes]:
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in fields}


async def _read_body(headers: dict[bytes, bytes], reader: asyncio.StreamReader) -> bytes:
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return await _read_chunked(reader)
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    """The chunks as they came, up to the empty one and the trailers behind it."""
    body = b""
    while True:
        size_line = await reader.readuntil(b"\r\n")
        size = int(size_line.partition(b";")[0], 16)
        body += size_line
        if size == 0:
            break
        body += await reader.readexactly(size + 2)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        body += line
    return body + b"\r\n"


def _error_reply(status: int, code: str, message: str, method: str) -> bytes:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    head = (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return (head if method == "HEAD" else head + body).encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
