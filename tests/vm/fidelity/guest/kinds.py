# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of services: how they are started, what they keep, what ends with them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import TAGS, Behaviour, Observation, Run, nothing, read, sh, wait

SLEEP = "ExecStart=/usr/bin/sleep infinity\n"
PORTABLE = Path("/var/tmp/portable")


def prepare() -> None:
    """Portable services, attached before they are layered, and aliases."""
    for tag in TAGS.values():
        name = f"fidport{tag}"
        root = PORTABLE / name
        for folder in ("usr/bin", "usr/lib/systemd/system", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/resolv.conf").touch()
        (root / "etc/machine-id").touch()
        (root / "usr/lib/os-release").write_text(f"ID={name}\nVERSION_ID=1\n")
        (root / "etc/os-release").write_text(f"ID={name}\nVERSION_ID=1\n")
        (root / f"usr/lib/systemd/system/{name}.service").write_text(f"[Service]\n{SLEEP}")
        # What `sleep` needs to run, at the same paths.
        libraries = [word for word in sh("ldd /usr/bin/sleep").stdout.split() if word.startswith("/")]
        for file in ("/usr/bin/sleep", *libraries):
            (root / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            sh(["cp", "-L", file, str(root / file.lstrip("/"))])
        sh(["portablectl", "attach", "--profile=trusted", str(root)])
        Path(f"/etc/systemd/system/fidalias-{tag}.service").symlink_to(f"fidreal-{tag}.service")


def life(unit: str, *more: str, extra: Callable[[Run], Observation] | None = None) -> Callable[[Run], Observation]:
    """Start, look, restart, look, stop, look."""

    def observe(run: Run) -> Observation:
        seen: Observation = {}
        for verb in ("start", "restart", "stop"):
            run.systemctl(verb, unit)
            seen[verb] = run.state(unit, *more)
            if extra is not None and verb != "stop":
                seen[verb] |= extra(run)
        return seen | {"journal": run.journal(unit)}

    return observe


def plain(name: str, key: str, text: str, started: Observation, stopped: str = "inactive", **more: object) -> Behaviour:
    """A behaviour that is the life of one service."""
    unit = f"{key}-@V@.service"
    seen = life(unit, "NRestarts", "StatusText")
    expect = {"ActiveState": "active", "Result": "success"} | started

    def observe(run: Run) -> Observation:
        found = seen(run)
        return found | {
            "as wanted": expect.items() <= found["start"].items() and found["stop"]["ActiveState"] == stopped
        }

    return Behaviour(name, {unit: text}, observe, {"as wanted": True}, **more)  # type: ignore[arg-type]


def socket_activated(run: Run) -> Observation:
    """The first connection starts the service, and it answers."""
    unit, path = "sock-@V@.service", run.name("/run/fid-@V@.sock")
    run.systemctl("start", "sock-@V@.socket")
    before = run.show(unit, "ActiveState")["ActiveState"]
    answers = []
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(path)
            answers.append(client.recv(100).decode())
    seen: Observation = {"before": before, "answers": answers} | run.state(unit)
    run.systemctl("stop", "sock-@V@.socket", unit)
    return seen


def bus_activated(run: Run) -> Observation:
    """A call for a name that nobody has starts the service."""
    unit, name = "busact-@V@.service", run.name("org.example.Fid@V@")
    before = run.show(unit, "ActiveState")["ActiveState"]
    busctl = ["busctl", "--system", "--timeout=120", "call", name, "/", "org.freedesktop.DBus.Peer", "Ping"]
    answered = sh(busctl, check=False)
    seen: Observation = {"before": before, "answered": answered.returncode} | run.state(unit, "BusName", "Type")
    seen["BusName"] = run.common(seen["BusName"])
    run.systemctl("stop", unit)
    return seen


def aliased(run: Run) -> Observation:
    """A service is started by its alias."""
    alias, unit = "fidalias-@V@.service", "fidreal-@V@.service"
    run.systemctl("start", alias)
    seen: Observation = {"same": run.show(alias, "Id")["Id"] == run.name(unit)} | run.state(unit)
    run.systemctl("stop", alias)
    return seen | {"stopped": run.show(unit, "ActiveState")["ActiveState"]}


def instances(run: Run) -> Observation:
    """Two instances of a template, each with its name."""
    pair = ("fidtmpl-@V@@a\\x2db.service", "fidtmpl-@V@@c.service")
    run.systemctl("start", *pair)
    seen: Observation = {}
    for unit in pair:
        run.await_command(unit, "sleep")
        (pid,) = run.processes(unit)
        name = run.name(unit).split("@")[1]
        seen[name] = run.state(unit) | {"command": read(Path(f"/proc/{pid}/cmdline")).split("\0")[:2]}
    run.systemctl("stop", *pair)
    return seen


def restarted(unit: str) -> Callable[[Run], Observation]:
    """The main process dies and comes back."""

    def observe(run: Run) -> Observation:
        run.systemctl("start", unit)
        first = run.show(unit, "MainPID")["MainPID"]
        os.kill(int(first), 9)
        wait(lambda: run.show(unit, "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}, 60)
        seen = run.state(unit, "NRestarts") | {"other process": run.show(unit, "MainPID")["MainPID"] != first}
        run.systemctl("stop", unit)
        return seen | {"journal": run.journal(unit)}

    return observe


def kept_descriptors(run: Run) -> Observation:
    """A descriptor in the store outlives stop and start."""
    unit = "fdstore-@V@.service"
    run.systemctl("start", unit)
    wait(lambda: run.show(unit, "NFileDescriptorStore")["NFileDescriptorStore"] == "1", 60)
    run.systemctl("stop", unit)
    seen: Observation = {"stopped": run.state(unit, "NFileDescriptorStore")}
    run.systemctl("start", unit)
    wait(lambda: run.show(unit, "StatusText")["StatusText"] != "", 60)
    seen["started"] = run.state(unit, "NFileDescriptorStore", "StatusText")
    run.systemctl("stop", unit)
    sh(["systemctl", "clean", "--what=fdstore", run.name(unit)])
    return seen | {"cleaned": run.show(unit, "NFileDescriptorStore")["NFileDescriptorStore"]}


def grouped(run: Run) -> Observation:
    """What happens to a leader happens to who is PartOf= it or BindsTo= it."""
    leader, part, bound = units = ("leader-@V@.service", "part-@V@.service", "bound-@V@.service")
    run.systemctl("start", *units)
    pids = [run.show(unit, "MainPID")["MainPID"] for unit in units]
    run.systemctl("restart", leader)
    seen: Observation = {
        "restarted": [run.show(unit, "MainPID")["MainPID"] not in (*pids, "0") for unit in units],
    }
    os.kill(int(run.show(leader, "MainPID")["MainPID"]), 15)
    wait(lambda: run.show(bound, "ActiveState")["ActiveState"] != "active", 20)
    seen["leader ended"] = [run.show(unit, "ActiveState")["ActiveState"] for unit in units]
    run.systemctl("stop", *units)
    seen["stopped"] = [run.show(unit, "ActiveState")["ActiveState"] for unit in (leader, part, bound)]
    return seen


def preserved(run: Run) -> Observation:
    """RuntimeDirectoryPreserve=restart: kept over a restart, gone with the stop."""
    unit, folder = "rundir-@V@.service", Path(run.name("/run/fidrundir-@V@"))
    run.systemctl("start", unit)
    (folder / "mark").touch()
    run.systemctl("restart", unit)
    seen: Observation = {"after restart": (folder / "mark").exists()}
    run.systemctl("stop", unit)
    return seen | {"after stop": folder.exists()}


def looked(unit: str) -> Callable[[Run], Observation]:
    """A service writes what it sees to its standard output, and that is in the journal."""

    def observe(run: Run) -> Observation:
        run.systemctl("start", unit)
        seen = run.state(unit) | {"journal": run.journal(unit)}
        run.systemctl("stop", unit)
        return seen

    return observe


def reexecuted(run: Run) -> Observation:
    """A daemon-reexec and a reload leave the service, its process and its limits alone."""
    unit = "reexec-@V@.service"
    run.systemctl("start", unit)
    pid = run.show(unit, "MainPID")["MainPID"]
    limits = [read(run.outer_cgroup(unit) / name) for name in ("memory.max", "memory.high")]
    seen: Observation = {}
    for verb in ("daemon-reload", "daemon-reexec"):
        sh(["systemctl", verb])
        now = [read(run.outer_cgroup(unit) / name) for name in ("memory.max", "memory.high")]
        seen[verb] = run.state(unit) | {"process": run.show(unit, "MainPID")["MainPID"] == pid, "limits": now == limits}
    run.systemctl("restart", unit)
    seen["restart"] = run.state(unit)
    run.systemctl("stop", unit)
    return seen | {"journal": run.journal(unit)}


def portable(run: Run) -> Observation:
    """An attached portable service runs from its image."""
    unit = "fidport@V@.service"
    run.systemctl("start", unit)
    run.await_command(unit, "sleep")
    (pid,) = run.processes(unit)
    seen = run.state(unit) | {
        "of its image": (Path(f"/proc/{pid}/root") / "etc/os-release").read_text().count("fidport")
    }
    run.systemctl("restart", unit)
    seen["restarted"] = run.state(unit)
    run.systemctl("stop", unit)
    return seen


def idle(run: Run) -> Observation:
    """Type=idle waits until no other job is left."""
    unit = "idle-@V@.service"
    begin = time.monotonic()
    run.systemctl("start", unit)
    run.await_command(unit, "sleep")
    seen = run.state(unit) | {"commands": run.commands(unit), "soon": time.monotonic() - begin < 30}
    run.systemctl("stop", unit)
    return seen


ANSWER = (
    '/usr/bin/python3 -c "import socket\nlistening = socket.socket(fileno=3)\nwhile True:\n'
    " client, _ = listening.accept()\n client.sendall(b'here')\n client.close()\""
).replace("\n", "\\n")
OWN = (
    '/usr/bin/python3 -c "from gi.repository import Gio, GLib; '
    "Gio.bus_own_name(Gio.BusType.SYSTEM, 'org.example.Fid@V@', 0, None, None, None); GLib.MainLoop().run()\""
)
POLICY = (
    '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">\n<busconfig><policy user="root">'
    '<allow own="org.example.Fid@V@"/><allow send_destination="org.example.Fid@V@"/></policy></busconfig>\n'
)
STORE = (
    '/usr/bin/python3 -c "import os, socket, time\\nfrom systemd import daemon\\n'
    "old = int(os.environ.get('LISTEN_FDS', '0'))\\n"
    "fd = os.memfd_create('kept')\\n"
    "daemon.notify('FDSTORE=1', fds=[fd]) if not old else daemon.notify('STATUS=found %%d' %% old)\\n"
    'time.sleep(1000000)"'
)

begin = nothing
BEHAVIOURS = [
    plain("Type=simple", "simple", f"[Service]\n{SLEEP}", {"tasks left": 1}),
    plain("Type=exec", "exec", f"[Service]\nType=exec\n{SLEEP}", {"tasks left": 1}),
    plain(
        "Type=forking with PIDFile=",
        "forking",
        "[Service]\nType=forking\nPIDFile=/run/%N.pid\n"
        "ExecStart=/bin/bash -c 'sleep infinity & echo $! >/run/%N.pid'\n",
        {"tasks left": 1},
    ),
    plain(
        "Type=notify",
        "notify",
        "[Service]\nType=notify\nNotifyAccess=all\n"
        "ExecStart=/bin/bash -c 'systemd-notify --ready --status=up; exec sleep infinity'\n",
        {"StatusText": "up"},
    ),
    plain(
        "Type=oneshot",
        "oneshot",
        "[Service]\nType=oneshot\nExecStart=/usr/bin/echo worked\n",
        {"ActiveState": "inactive", "tasks left": 0},
    ),
    plain(
        "Type=oneshot with RemainAfterExit=yes",
        "remain",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/echo worked\nExecStop=/usr/bin/echo undone\n",
        {"SubState": "exited", "tasks left": 0},
    ),
    plain(
        "A service that fails, with ExecStopPost=",
        "failing",
        "[Service]\nExecStart=/usr/bin/false\nType=oneshot\nSuccessExitStatus=1\n"
        "ExecStopPost=/bin/bash -c 'echo $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS'\n",
        {"ActiveState": "inactive"},
    ),
    Behaviour(
        "Type=idle",
        {"idle-@V@.service": f"[Service]\nType=idle\n{SLEEP}"},
        idle,
        {"ActiveState": "active", "commands": ["sleep"], "soon": True},
    ),
    Behaviour(
        "Socket activation",
        {
            "sock-@V@.socket": "[Socket]\nListenStream=/run/fid-@V@.sock\n",
            "sock-@V@.service": f"[Service]\nExecStart={ANSWER}\n",
        },
        socket_activated,
        {"before": "inactive", "answers": ["here", "here"], "ActiveState": "active"},
    ),
    Behaviour(
        "Type=dbus, activated by D-Bus",
        {
            "busact-@V@.service": f"[Service]\nType=dbus\nBusName=org.example.Fid@V@\nExecStart={OWN}\n",
            "/etc/dbus-1/system.d/org.example.Fid@V@.conf": POLICY,
            "/usr/share/dbus-1/system-services/org.example.Fid@V@.service": "[D-BUS Service]\n"
            "Name=org.example.Fid@V@\nExec=/bin/false\nUser=root\nSystemdService=busact-@V@.service\n",
        },
        bus_activated,
        {"before": "inactive", "answered": 0, "ActiveState": "active"},
        layered=("busact-@V@.service",),
    ),
    Behaviour(
        "An alias",
        {
            "fidreal-@V@.service": f"[Service]\n{SLEEP}[Install]\nAlias=fidalias-@V@.service\n",
        },
        aliased,
        {"same": True, "ActiveState": "active", "stopped": "inactive"},
    ),
    Behaviour(
        "Instances of a template",
        {"fidtmpl-@V@@.service": "[Service]\nExecStart=/bin/bash -c 'exec -a %i sleep infinity'\n"},
        instances,
        {},
        layered=("fidtmpl-@V@@a\\x2db.service", "fidtmpl-@V@@c.service"),
    ),
    Behaviour(
        "Restart=always",
        {"again-@V@.service": f"[Service]\nRestart=always\nRestartSec=100ms\n{SLEEP}"},
        restarted("again-@V@.service"),
        {"ActiveState": "active", "NRestarts": "1", "other process": True},
    ),
    Behaviour(
        "RestartMode=direct",
        {"direct-@V@.service": f"[Service]\nRestart=always\nRestartMode=direct\nRestartSec=100ms\n{SLEEP}"},
        restarted("direct-@V@.service"),
        {"ActiveState": "active", "NRestarts": "1", "other process": True},
        since=254,
    ),
    Behaviour(
        "FileDescriptorStorePreserve=yes",
        {
            "fdstore-@V@.service": "[Service]\nFileDescriptorStoreMax=4\nFileDescriptorStorePreserve=yes\n"
            f"NotifyAccess=all\nExecStart={STORE}\n"
        },
        kept_descriptors,
        {"cleaned": "0"},
        since=254,
    ),
    Behaviour(
        "PartOf= and BindsTo=",
        {
            "leader-@V@.service": f"[Service]\n{SLEEP}",
            "part-@V@.service": f"[Unit]\nPartOf=leader-@V@.service\n[Service]\n{SLEEP}",
            "bound-@V@.service": f"[Unit]\nBindsTo=leader-@V@.service\nAfter=leader-@V@.service\n[Service]\n{SLEEP}",
        },
        grouped,
        {"leader ended": ["inactive", "active", "inactive"]},
    ),
    Behaviour(
        "RuntimeDirectoryPreserve=restart",
        {
            "rundir-@V@.service": "[Service]\nType=exec\nRuntimeDirectory=fidrundir-@V@\n"
            f"RuntimeDirectoryPreserve=restart\n{SLEEP}"
        },
        preserved,
        {"after restart": True, "after stop": False},
    ),
    Behaviour(
        "DynamicUser=yes with StateDirectory=",
        {
            "dynuser-@V@.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            "DynamicUser=yes\nStateDirectory=fidstate-@V@\n"
            "ExecStart=/bin/bash -c 'touch $STATE_DIRECTORY/mark && test $(id -u) -gt 60000 && echo dynamic'\n"
        },
        looked("dynuser-@V@.service"),
        {"SubState": "exited", "Result": "success"},
    ),
    Behaviour(
        "PrivateUsers=yes",
        {
            "privusers-@V@.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nPrivateUsers=yes\n"
            "ExecStart=/usr/bin/cat /proc/self/uid_map\n"
        },
        looked("privusers-@V@.service"),
        {"SubState": "exited", "Result": "success"},
    ),
    Behaviour(
        "ProtectControlGroups=yes",
        {
            "protcg-@V@.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nProtectControlGroups=yes\n"
            "ExecStart=/bin/bash -c 'mkdir /sys/fs/cgroup/fid 2>/dev/null && echo writable || echo protected'\n"
        },
        looked("protcg-@V@.service"),
        {"SubState": "exited", "Result": "success"},
    ),
    Behaviour(
        "daemon-reload and daemon-reexec",
        {"reexec-@V@.service": f"[Service]\nMemoryMax=64M\nMemoryHigh=48M\n{SLEEP}"},
        reexecuted,
        {},
    ),
    Behaviour(
        "A portable service",
        {},
        portable,
        {"ActiveState": "active", "of its image": 1},
        layered=("fidport@V@.service",),
    ),
]
