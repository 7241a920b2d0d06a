# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of vagrant/lab."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from lablib import network, sshconf, vm
from lablib.paths import HERE, SUITES, LabError, cache
from lablib.run import in_parallel, say


def main() -> int:
    """Run one command of the lab; the exit code is 0, the guest command's own, 1 on failure or 2 on bad usage."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `lab status | head` shall end in silence
    arguments, rest = _split(sys.argv[1:])
    options = _parser().parse_args(arguments)
    try:
        if os.geteuid() != 0:
            raise LabError("The lab makes network namespaces and disks: run it as root.")
        if shutil.which("vagrant") is None or shutil.which("virsh") is None:
            _setup()
        return _COMMANDS[options.command](options, rest) or 0
    except LabError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lab's own words, and those after `--`."""
    if "--" in words:
        at = list(words).index("--")
        return list(words[:at]), list(words[at + 1 :])
    return list(words), []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="VMs of Debian 12, 13 and forky for tests and demo.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, suites: str | None = None) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        if suites == "one":
            one.add_argument("suite", choices=SUITES, metavar="SUITE")
        elif suites:
            one.add_argument("suites", nargs=suites, choices=(*SUITES, []), metavar="SUITE")
        return one

    command("setup", "install what the lab needs from Debian's packages")
    command("probe", "print the acceleration in use: kvm or tcg", "*")
    command("box", "build the boxes that aren't there", "+")
    command("up", "boot the guests, wait until systemd is done, save the snapshot 'clean'", "+")
    command("ssh", "run what follows -- as root in the guest, or log in", "one").add_argument("-l", "--user")
    command("ssh-config", "print the ssh configuration of the guests", "+")
    command("save", "save disk and memory of a guest", "one").add_argument("name", metavar="NAME")
    command("restore", "bring a guest back to a snapshot", "one").add_argument(
        "name", metavar="NAME", nargs="?", default=vm.CLEAN
    )
    push = command("push", "copy a file or folder into a guest", "one")
    push.add_argument("file", metavar="FILE")
    push.add_argument("dest", metavar="DEST")
    command("run", "run what follows -- on this host, inside the namespace")
    command("vagrant", "run Vagrant with what follows -- on the lab's machines")
    command("virsh", "run virsh with what follows -- on the lab's libvirt")
    command("down", "shut guests down; without a name all of them, and the daemons", "*")
    command("destroy", "remove guests with their disks and snapshots; without a name all of them", "*")
    command("status", "what is there and what runs", "*")
    return parser


def _setup(*_: object) -> None:
    if subprocess.run([str(HERE / "setup")], stdin=subprocess.DEVNULL).returncode:
        raise LabError("vagrant/setup failed; its message is above.")


def _probe(options: argparse.Namespace, _: list[str]) -> None:
    print(vm.acceleration(options.suites or SUITES[:1]))


def _box(options: argparse.Namespace, _: list[str]) -> None:
    for suite, box in vm.build_boxes(options.suites).items():
        print(f"{suite} {box.name}")


def _up(options: argparse.Namespace, _: list[str]) -> None:
    _setup()
    vm.up(options.suites)


def _ssh(options: argparse.Namespace, rest: list[str]) -> int:
    user = ["-l", options.user] if options.user else []
    return subprocess.run(["ssh", "-F", str(sshconf.config_file()), *user, options.suite, *rest]).returncode


def _ssh_config(options: argparse.Namespace, _: list[str]) -> None:
    print("".join(sshconf.config_text(suite) for suite in options.suites), end="")


def _push(options: argparse.Namespace, _: list[str]) -> int:
    command = ["scp", "-q", "-r", "-F", str(sshconf.config_file()), options.file, f"{options.suite}:{options.dest}"]
    return subprocess.run(command).returncode


def _run(_: argparse.Namespace, rest: list[str]) -> int:
    network.start()
    return subprocess.run(network.in_namespace(rest)).returncode


def _vagrant(_: argparse.Namespace, rest: list[str]) -> int:
    network.start()
    return subprocess.run(vm.vagrant(*rest), env=os.environ | vm.vagrant_environment()).returncode


def _virsh(_: argparse.Namespace, rest: list[str]) -> int:
    network.start()
    return subprocess.run(network.inside(["virsh", "--connect", "qemu:///system", *rest])).returncode


def _down(options: argparse.Namespace, _: list[str]) -> None:
    if not network.exists():
        return
    network.start()
    suites = options.suites or SUITES
    in_parallel(vm.down, suites, len(suites))
    if not options.suites:
        network.stop()
        say("daemons and namespace are gone")


def _destroy(options: argparse.Namespace, _: list[str]) -> None:
    network.start()
    for suite in options.suites or SUITES:
        vm.destroy(suite)


def _status(options: argparse.Namespace, _: list[str]) -> None:
    up = network.is_up()
    print(f"cache {cache()}\nnetwork {'up' if up else 'down'}")
    for suite in (options.suites or SUITES) if up else ():
        state = vm.state(suite)
        saved = " ".join(vm.snapshots(suite)) if state else ""
        print(f"{suite} {state or 'absent'}" + (f" (snapshots: {saved})" if saved else ""))


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int | None]] = {
    "setup": _setup, "probe": _probe, "box": _box, "up": _up, "ssh": _ssh, "ssh-config": _ssh_config,
    "save": lambda options, _: vm.save(options.suite, options.name),
    "restore": lambda options, _: vm.restore(options.suite, options.name),
    "push": _push, "run": _run, "vagrant": _vagrant, "virsh": _virsh,
    "down": _down, "destroy": _destroy, "status": _status,
}  # fmt: skip
