"""Processes that have secrets in their memory leave no image of it behind when they crash."""

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """No core file, no dump to a crash collector, no debugger of the same user. Inherited by a fork, not by an exec."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # the limit alone does not stop a collector that the kernel pipes the image to
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
