"""What one machine can find out by itself, before hamaild runs."""

import errno
import socket
import subprocess
import sys
import time

import msgspec

from hamail.model.machine import FACTS_BYTES_MAX, MachineFacts
from hamail.model.report import NodeReport
from hamail.model.spec import ClusterSpec

LOOK_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 2.0


def look(spec: ClusterSpec) -> NodeReport:
    """The same look that the executor takes; as another user than root it sees less, and says so."""
    question = msgspec.msgpack.encode(tuple(spec.groups.values()))
    facts, problem = None, ""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "hamail.machine"],
            input=question,
            capture_output=True,
            timeout=LOOK_TIMEOUT_S,
            check=True,
        )
        facts = msgspec.msgpack.decode(done.stdout[:FACTS_BYTES_MAX], type=MachineFacts)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        problem = f"this machine cannot be looked at: {error}"
    return NodeReport(at_ms=time.time_ns() // 1_000_000, machine=facts, machine_problem=problem)


def connect(address: str, port: int) -> str:
    """ "" when it can be connected to, "refused" when the machine says no, else why not."""
    try:
        with socket.create_connection((address, port), CONNECT_TIMEOUT_S):
            return ""
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        return f"cannot be reached ({error.strerror or name or error})"
