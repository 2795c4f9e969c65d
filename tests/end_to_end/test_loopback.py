"""A Ray of our own is nobody else's business: it listens on this machine alone."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# In a process of its own: what Ray listens on is settled when it is first imported.
SCRIPT = """
from pipeline.options import WorkerOptions
from pipeline.pool import RayPool
RayPool(None, WorkerOptions())
print("ready", flush=True)
input()
"""


def descendants(pid: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has just ended
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening_on(pids: set[int]) -> set[Address]:
    """The addresses on which these processes listen."""
    sockets = set()
    for pid in pids:
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    addresses: set[Address] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                raw = bytes.fromhex(fields[1].split(":")[0])
                words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]  # the kernel writes words of the host
                address = ipaddress.ip_address(b"".join(words))
                addresses.add(getattr(address, "ipv4_mapped", None) or address)
    return addresses


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_a_ray_of_our_own_listens_on_loopback_alone() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        addresses = listening_on(descendants(process.pid))
        process.communicate("\n")
    assert addresses
    assert [address for address in addresses if not address.is_loopback] == []
