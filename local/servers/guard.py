"""Becomes the given command, after asking the kernel to kill it as soon as its parent is gone.

Run as `python -I -S guard.py PARENT_PID COMMAND…`. A launcher of its own, because code between fork and exec
in a process with threads (gRPC has many) may deadlock, and nothing but the child itself can ask for this.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PARENT_GONE = 3


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the request was made: then nobody would ever send the signal.
    if os.getppid() != parent:
        sys.exit(PARENT_GONE)
    # Python ignores these two, and a program started with a signal ignored keeps ignoring it.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
