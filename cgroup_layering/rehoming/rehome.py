# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rehome services: choose, evict and read in again from inside the layer, look again."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.service_files import Use
from cgroup_layering.charges.usage import Target, Usage, usages
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.mounts import mounts
from cgroup_layering.rehoming.choice import Choice, Left, choose, left_after, memory_devices
from cgroup_layering.rehoming.worker import ORDER, REPORT, WAITING
from cgroup_layering.systemd.manager import UNIT, BusError, Manager, Transient

POLL = 0.25
WAIT_POLL = 0.02
START_SECONDS = 60.0
"""What the worker may take beside waiting for the service's stop, until the service may start."""
_RUN = "import sys; sys.path.insert(0, sys.argv[1]); from cgroup_layering.rehoming.worker import main; " + (
    "import pathlib; main(pathlib.Path(sys.argv[2]))"
)
_PACKAGES = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Stop:
    """A restart under way: the cgroup that empties, and how many seconds that may take."""

    cgroup: str
    seconds: float


@dataclass
class Rehomed:
    """What was done for one service. Pages and bytes; strays as in charges.usage."""

    unit: str
    stray_pages_before: int
    stray_pages_after: int = 0
    resident_pages_before: int = 0
    """Of the files that were touched."""
    resident_pages_after: int = 0
    evicted_pages: int = 0
    reread_bytes: int = 0
    copied_bytes: int = 0
    left: dict[Left, int] = field(default_factory=dict)
    maps_outside: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class _Job:
    choice: Choice
    target: Target
    result: Rehomed
    folder: Path
    name: str = ""
    report: Mapping[str, Any] | None = None


class Rehomer:
    """One run for some services. Use it as a context manager: prepare, begin, (restart,) finish.

    `maps` are all bpf maps that are known, for the count of those that are charged outside.
    """

    def __init__(
        self, manager: Manager, fs: CgroupFS, timeout: float, *, shared: bool, tmpfs: bool, maps: Iterable[BpfMap] = ()
    ) -> None:
        self._manager = manager
        self._fs = fs
        self._timeout = timeout
        self._shared = shared
        self._tmpfs = tmpfs
        self._maps = tuple(maps)
        self._memory = memory_devices(mounts())
        self._jobs: list[_Job] = []
        # Mode 0700, a name that nobody can guess, gone with us.
        self._folder = tempfile.TemporaryDirectory(prefix="cgroup-layering-rehome-", dir="/run")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._folder.cleanup()

    def prepare(self, targets: Mapping[str, Target]) -> None:
        """See what is to be done; `targets` by layer. Raises as usages does."""
        for layer, usage in zip(targets, usages(targets.values(), self._fs, self._maps), strict=True):
            choice = choose(usage, layer, self._memory, self._shared, self._tmpfs)
            result = Rehomed(usage.target.unit, _strays(usage))
            result.resident_pages_before = sum(used.row.resident_pages for used in choice.files)
            self._jobs.append(_Job(choice, usage.target, result, self._new_folder()))

    def _new_folder(self) -> Path:
        folder = Path(self._folder.name) / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return folder

    def begin(self, stops: Mapping[str, Stop]) -> None:
        """Start the workers and wait until they are up.

        Those of services in `stops` wait until these have stopped, and hold back their start.
        """
        for job in self._jobs:
            if job.choice.files:
                self._start(job, stops.get(job.choice.unit))
        deadline = time.monotonic() + START_SECONDS
        waiting = [job for job in self._jobs if job.name and job.choice.unit in stops]
        while waiting and time.monotonic() < deadline:
            time.sleep(WAIT_POLL)
            waiting = [job for job in waiting if not (job.folder / WAITING).exists()]

    def _start(self, job: _Job, stop: Stop | None) -> None:
        unit = job.choice.unit
        order = {
            "wait_for": str(self._fs.directory(stop.cgroup)) if stop else "",
            "wait_seconds": stop.seconds if stop else 0,
            "files": [_file(used) for used in job.choice.evict],
            "tmpfs": [_file(used) for used in job.choice.recopy],
        }
        (job.folder / ORDER).write_text(json.dumps(order))
        job.name = f"cgroup-layering-rehome-{job.folder.name}.service"
        # Without the user's environment and folder, and with the modules that this program has.
        argv = (sys.executable, "-I", "-B", "-c", _RUN, str(_PACKAGES), str(job.folder))
        try:
            self._manager.start_transient(
                Transient(
                    name=job.name,
                    description=f"Rehoming the files of {unit}",
                    slice=job.choice.layer,
                    argv=argv,
                    type="notify",
                    before=(unit,),
                    timeout_seconds=START_SECONDS + (stop.seconds if stop else 0),
                )
            )
        except BusError as error:
            job.result.problems.append(str(error))
            job.name = ""

    def finish(self) -> list[Rehomed]:
        """Wait for the workers, look again, and say what was done.

        What a service wrote while it stopped is of the old instance still: it is rehomed beside the new one.
        """
        self._collect(self._jobs)
        if later := self._look():
            for job in later:
                self._start(job, None)
            self._collect(later)
            self._look()
        return [job.result for job in self._jobs]

    def _look(self) -> list[_Job]:
        """See what is left outside the layers; what could be moved of it now."""
        targets = [self._now(job.target) for job in self._jobs]
        later = []
        with Attributor() as attributor:
            for job, usage in zip(self._jobs, usages(targets, self._fs, self._maps), strict=True):
                job.result.stray_pages_after = _strays(usage)
                job.result.left = left_after(usage, self._memory)
                outside = [one for one in usage.maps if one.owner not in self._inodes(usage.target.home)]
                job.result.maps_outside = len(outside)
                paths = [Path(used.row.path) for used in job.choice.files]
                found = attributor.charges(paths, on_error=lambda _error: None)
                job.result.resident_pages_after = sum(charges.resident_pages for charges in found)
                choice = choose(usage, job.choice.layer, self._memory, self._shared, tmpfs=False)
                free = tuple(used for used in choice.evict if not used.uses & {Use.MAPPED, Use.EXECUTABLE})
                if free:
                    later.append(_Job(replace(choice, evict=free), usage.target, job.result, self._new_folder()))
        return later

    def _inodes(self, home: str) -> frozenset[int]:
        try:
            return frozenset(entry.inode for entry in self._fs.walk(home)) if home else frozenset()
        except CgroupLayeringError:  # it has gone
            return frozenset()

    def _now(self, target: Target) -> Target:
        """Where to look for the service's processes now: in its layer, unless they have stayed where they were."""
        stayed = bool(target.running) and self._fs.exists(target.running)
        return Target(target.unit, target.home, target.folders, target.running if stayed else "")

    def _collect(self, jobs: list[_Job]) -> None:
        """Wait for the workers and take in their reports."""
        self._wait([job for job in jobs if job.name])
        for job in jobs:
            if job.report is not None:
                result = job.result
                result.evicted_pages += int(job.report["evicted_pages"])
                result.reread_bytes += int(job.report["reread_bytes"])
                result.copied_bytes += int(job.report["copied_bytes"])
                result.problems.extend(map(str, job.report["problems"]))
                if not job.report["stopped"]:
                    result.problems.append(f"{result.unit} did not stop in time; what it maps was left.")

    def _wait(self, waiting: list[_Job]) -> None:
        deadline = time.monotonic() + self._timeout
        while waiting:
            waiting = [job for job in waiting if not _read(job)]
            names = [job.name for job in waiting]
            # Before the states: a unit whose start is still queued is inactive too, and has not ended.
            queued = set(self._manager.jobs().values())
            found = self._manager.properties(names, UNIT, ("ActiveState",))
            for job in list(waiting):
                ended = job.name not in queued and found[job.name].get("ActiveState") in ("inactive", "failed")
                if ended and not _read(job):
                    job.result.problems.append(f"{job.name} ended without a report; see `journalctl -u {job.name}`.")
                if ended:
                    waiting.remove(job)
            if waiting and time.monotonic() > deadline:
                for job in waiting:
                    job.result.problems.append(f"{job.name} was not done within {self._timeout:g} s; it goes on.")
                return
            if waiting:
                time.sleep(POLL)


def _read(job: _Job) -> bool:
    try:
        job.report = json.loads((job.folder / REPORT).read_text())
    except FileNotFoundError:
        return False
    return True


def _file(used: Any) -> dict[str, object]:
    return {"path": used.row.path, "device": used.device, "inode": used.inode}


def _strays(usage: Usage) -> int:
    return sum(owner.pages for owner in usage.strays())
