# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPU and disk: weights between services, and limits."""

from __future__ import annotations

import time
from pathlib import Path

from tests.vm.fidelity.guest.kit import CGROUPS, Behaviour, Observation, Run, keyed, nothing, read, wait

BUSY = "ExecStart=/bin/bash -c 'while :; do :; done'\n"
MIB = 1 << 20


def usage(run: Run, unit: str) -> int:
    """Microseconds of processor time."""
    return keyed(run.outer_cgroup(unit) / "cpu.stat")["usage_usec"]


def two_to_one(ratio: float) -> str:
    """Whether it is 2:1, about."""
    return "2:1" if 1.5 <= ratio <= 2.6 else f"{ratio:.2f}:1"


def cpu_weight(run: Run) -> Observation:
    """Two busy services on one processor."""
    pair = ("cpuheavy-@V@.service", "cpulight-@V@.service")
    run.systemctl("start", *pair)
    try:
        time.sleep(1)
        before = [usage(run, unit) for unit in pair]
        time.sleep(6)
        spent = [usage(run, unit) - was for unit, was in zip(pair, before, strict=True)]
        return {"share": two_to_one(spent[0] / spent[1])}
    finally:
        run.systemctl("stop", *pair)


def cpu_quota(run: Run) -> Observation:
    """A busy service that may have a fifth of a processor."""
    unit = "cpuquota-@V@.service"
    run.systemctl("start", unit)
    try:
        # The clock is read beside the file: to ask systemd where that is can take seconds.
        stat = run.outer_cgroup(unit) / "cpu.stat"
        before, begin = keyed(stat)["usage_usec"], time.monotonic()
        time.sleep(5)
        part = (keyed(stat)["usage_usec"] - before) / (time.monotonic() - begin) / 1e6
        throttled = keyed(run.cgroup(unit) / "cpu.stat")["nr_throttled"]
        return {"a fifth": 0.1 < part < 0.25, "throttled": throttled > 0}
    finally:
        run.systemctl("stop", unit)


def allowed_cpus(run: Run) -> Observation:
    """The processors that a process sees."""
    unit = "cpus-@V@.service"
    run.systemctl("start", unit)
    (pid, *_rest) = run.processes(unit)
    status = read(Path(f"/proc/{pid}/status")).splitlines()
    seen: Observation = {"allowed": next(line for line in status if line.startswith("Cpus_allowed_list")).split()[1]}
    run.systemctl("stop", unit)
    return seen


def tasks_max(run: Run) -> Observation:
    """A service that wants more tasks than it may have."""
    unit = "tasks-@V@.service"
    run.systemctl("start", unit)
    wait(lambda: keyed(run.cgroup(unit) / "pids.events")["max"] > 0, 20)
    seen: Observation = {"tasks": int(read(run.cgroup(unit) / "pids.current"))}
    seen["refused"] = keyed(run.cgroup(unit) / "pids.events")["max"] > 0
    run.systemctl("stop", unit)
    return seen


def io_cost(on: bool) -> None:
    """Have io.cost share the disk as if it read 8 MB a second: an emulated processor is slower than the real one."""
    disk = read(Path("/sys/block/vda/dev"))
    speed = "rbps=8000000 rseqiops=2000 rrandiops=2000 wbps=8000000 wseqiops=2000 wrandiops=2000"
    (CGROUPS / "io.cost.model").write_text(f"{disk} ctrl=user model=linear {speed}\n")
    (CGROUPS / "io.cost.qos").write_text(f"{disk} enable={int(on)} ctrl=user rpct=0 wpct=0 min=100 max=100\n")


def no_io_cost() -> str:
    """Why the disk can't be shared by weights here, or nothing."""
    return "" if (CGROUPS / "io.cost.qos").exists() else "The release's cloud kernel is built without io.cost."


def bytes_read(run: Run, unit: str) -> int:
    """Bytes that were read from the disk."""
    words = [line.split() for line in read(run.outer_cgroup(unit) / "io.stat").splitlines()]
    return sum(int(word.removeprefix("rbytes=")) for line in words for word in line if word.startswith("rbytes="))


def io_weight(run: Run) -> Observation:
    """Two services that read the disk as fast as they get it."""
    pair = ("ioheavy-@V@.service", "iolight-@V@.service")
    io_cost(True)
    run.systemctl("start", *pair)
    try:
        time.sleep(2)
        before = [bytes_read(run, unit) for unit in pair]
        time.sleep(8)
        spent = [bytes_read(run, unit) - was for unit, was in zip(pair, before, strict=True)]
        return {"share": two_to_one(spent[0] / max(1, spent[1]))}
    finally:
        io_cost(False)
        run.systemctl("stop", *pair)


def write_limit(run: Run) -> Observation:
    """Written into the page cache, then to a disk that may take 2 MiB a second: the limit holds back the sync."""
    unit = "iowrite-@V@.service"
    begin = time.monotonic()
    run.systemctl("start", unit)
    held_back = time.monotonic() - begin > 0.6 * 12 / 2
    return {"held back": held_back} | run.state(unit)


READ = "ExecStart=/bin/bash -c 'while :; do dd if=/dev/vda of=/dev/null bs=256K iflag=direct status=none; done'\n"
prepare = begin = nothing
BEHAVIOURS = [
    Behaviour(
        "CPUWeight= 2:1 on one processor",
        {
            "cpuheavy-@V@.service": f"[Service]\nCPUAffinity=1\nCPUWeight=200\n{BUSY}",
            "cpulight-@V@.service": f"[Service]\nCPUAffinity=1\nCPUWeight=100\n{BUSY}",
        },
        cpu_weight,
        {"share": "2:1"},
    ),
    Behaviour(
        "CPUQuota=20%",
        {"cpuquota-@V@.service": f"[Service]\nCPUQuota=20%\n{BUSY}"},
        cpu_quota,
        {"a fifth": True, "throttled": True},
    ),
    Behaviour(
        "AllowedCPUs=1",
        {"cpus-@V@.service": "[Service]\nAllowedCPUs=1\nExecStart=/usr/bin/sleep infinity\n"},
        allowed_cpus,
        {"allowed": "1"},
    ),
    Behaviour(
        "TasksMax=4",
        {
            "tasks-@V@.service": "[Service]\nTasksMax=4\nExecStart=/bin/bash -c "
            "'for n in 1 2 3 4 5 6; do sleep infinity & done; wait'\n"
        },
        tasks_max,
        {"tasks": 4, "refused": True},
    ),
    Behaviour(
        "IOWeight= 2:1 on one disk (io.cost)",
        {
            "ioheavy-@V@.service": f"[Service]\nIOWeight=200\n{READ}",
            "iolight-@V@.service": f"[Service]\nIOWeight=100\n{READ}",
        },
        io_weight,
        {"share": "2:1"},
        needs=no_io_cost,
    ),
    Behaviour(
        "IOWriteBandwidthMax= holds back buffered writes",
        {
            "iowrite-@V@.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nIOWriteBandwidthMax=/dev/vda 2M\n"
            "ExecStart=/usr/bin/dd if=/dev/zero of=/var/tmp/iowrite-@V@ bs=1M count=12 conv=fsync status=none\n"
        },
        write_limit,
        {"held back": True, "ActiveState": "active"},
    ),
]
