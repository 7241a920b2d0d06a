# SPDX-License-Identifier: LGPL-2.1-or-later
"""ssh to the guests: one generated configuration that works in and outside of the namespace."""

from __future__ import annotations

import time
from pathlib import Path

from lablib.paths import GUESTS, NAMESPACE, LabError, cache, runtime, ssh_key
from lablib.run import succeeds, write_if_changed

# One connection is kept open per guest and user, as each new one costs 1-2 s of emulated cryptography; the key
# exchange is the cheapest that all releases know, for the same reason. A guest that was restored or that hangs is
# noticed within a minute, and `lab restore` closes the kept connections itself.
_HOST = """Host {suite}
  HostName {address}
  User root
  IdentityFile "{key}"
  IdentitiesOnly yes
  ProxyCommand ip netns exec {namespace} nc %h %p
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 60
  KexAlgorithms curve25519-sha256
  ServerAliveInterval 15
  ServerAliveCountMax 4
  ControlMaster auto
  ControlPath {sockets}/ssh-%n-%r
  ControlPersist 30m
"""


def config_text(suite: str) -> str:
    """The ssh configuration of one guest, for root; `-l vagrant` (or vagrant@SUITE) is the ordinary user."""
    return _HOST.format(
        suite=suite, address=GUESTS[suite].address, key=ssh_key(), namespace=NAMESPACE, sockets=runtime()
    )


def config_file() -> Path:
    """The file with the configuration of all guests, written if it isn't there."""
    file = cache() / "ssh" / "config"
    write_if_changed(file, "".join(config_text(suite) for suite in GUESTS))
    return file


def ssh(suite: str, *words: str) -> list[str]:
    """The ssh command that runs `words` on `suite`."""
    return ["ssh", "-F", str(config_file()), suite, *words]


def close(suite: str) -> None:
    """Close the kept connections to `suite`, and with them what runs over them."""
    for socket in runtime().glob(f"ssh-{suite}-*"):
        user = socket.name.removeprefix(f"ssh-{suite}-")
        succeeds(["ssh", "-F", str(config_file()), "-O", "exit", f"{user}@{suite}"], 10)
        socket.unlink(missing_ok=True)


def wait(suite: str, patience: float = 300) -> None:
    """Wait until `suite` answers over ssh; the connection that answered is kept. LabError after `patience` seconds."""
    end = time.monotonic() + patience
    while not succeeds(["ssh", "-F", str(config_file()), "-o", "ConnectTimeout=20", suite, "true"], 40):
        if time.monotonic() > end:
            raise LabError(f"{suite} doesn't answer over ssh within {patience:.0f} s.")
        close(suite)
        time.sleep(0.5)
