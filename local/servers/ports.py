"""Free loopback ports that stay ours, so that a server can be killed and started again on the same one."""

import random
import socket
import sys
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 12_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768
TRIES = 2_000

# An abstract socket per port marks it as taken for every other stack on this machine. The kernel drops
# the mark with the process that holds it, whatever its end.
_marks: dict[int, socket.socket] = {}


def reserve() -> int:
    """A port that nobody listens on and that no other Catraca process will choose while this one lives.

    It lies below the ephemeral range: an outgoing connection can never take it while its server is down.
    """
    highest = max(_ephemeral_start() - 1, LOWEST + 1_000)
    for _ in range(TRIES):
        port = random.randint(LOWEST, highest)
        if port not in _marks and _mark(port):
            if _is_free(port):
                return port
            release(port)
    raise OSError(f"no free port between {LOWEST} and {highest}")


def release(port: int) -> None:
    """Give a reserved port back."""
    mark = _marks.pop(port, None)
    if mark is not None:
        mark.close()


def _mark(port: int) -> bool:
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform == "linux":
        try:
            mark.bind(f"\0catraca-port-{port}")
        except OSError:
            mark.close()
            return False
    _marks[port] = mark
    return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
