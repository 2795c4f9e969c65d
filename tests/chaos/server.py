"""An S3-compatible server that can be killed: moto's keeps all in memory, so what was asked of it is asked anew."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.s3 import S3Bucket, S3Server, free_port, wait_until_listening


class MortalS3:
    """A server on loopback which writes down every request before it carries it out; a new one repeats what changes
    something. So a kill loses no object: at worst it carries out what nobody was told of any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._num_starts = 0

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start_empty(self) -> S3Bucket:
        """A new server in place of the one before; gives a new bucket."""
        self.kill()
        self._start()
        return S3Server(endpoint_url=self.endpoint_url).make_bucket()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start_again(self) -> None:
        """Starts a server that has what the killed one had; nobody must ask it anything before this returns."""
        requests = list(self._requests())
        self._start()
        for request in requests:
            self._repeat(request)

    @property
    def _record(self) -> Path:
        return self._folder / f"requests-{self._num_starts}.jsonl"

    def _start(self) -> None:
        self._record.unlink(missing_ok=True)
        self._num_starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            env=os.environ | {"MOTO_ENABLE_RECORDING": "1", "MOTO_RECORDER_FILEPATH": str(self._record)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_listening(self._process, self._port)

    def _requests(self) -> Iterator[dict[str, Any]]:
        """Those that change something. Two that were written at once may share a line; the last may be cut off."""
        text, decoder = self._record.read_text(), json.JSONDecoder()
        place = 0
        with contextlib.suppress(json.JSONDecodeError):
            while place < len(text):
                request, place = decoder.raw_decode(text, place)
                place += len(text[place:]) - len(text[place:].lstrip("\n"))
                if request["method"] not in ("GET", "HEAD"):
                    yield request

    def _repeat(self, request: dict[str, Any]) -> None:
        url = urlsplit(request["url"])
        body = base64.b64decode(request["body"] or "") if request["body_encoded"] else request["body"]
        headers = {name: value for name, value in request["headers"].items() if name.lower() != "expect"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            connection.request(request["method"], f"{url.path}?{url.query}", body, headers)
            connection.getresponse().read()
