# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real drift and risks on real hosts: `doctor` names each, and no longer does after the remedy that `explain` gives."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.machine import Machine

pytestmark = pytest.mark.on("trixie")

UNITS = "/etc/systemd/system"
SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
PLAIN = ("outranked", "masked", "gone", "reverted", "weight", "stale", "moved", "old", "orphan", "left")
SERVICE = ("tracked", "policy", "written")
FILL = "[Service]\nExecStart=/bin/sh -c 'head -c 30M /dev/zero > /dev/shm/fill'\nType=oneshot\nMemoryMax=34M\n"
# The last one sits in a slice that limits its units from systemd 258 on; before, that setting is not known.
TEXTS = {
    **dict.fromkeys((*PLAIN, "policy", "new", "brief"), SLEEP),
    "tracked": SLEEP + "OOMPolicy=continue\n",
    "written": SLEEP + "OOMPolicy=continue\n",
    "fill": FILL,
    "limited": SLEEP + "Slice=few.slice\n",
}

RULE = 'table inet seen { chain output { socket cgroupv2 level 2 "system.slice/weight.service" counter; }; }'
DRIFT = f"""
set -e
cd {UNITS}
mkdir -p outranked.service.d && printf '[Service]\\nSlice=system.slice\\n' > outranked.service.d/zzz.conf
rm system-masked.service.slice && ln -s /dev/null system-masked.service.slice
rm system-gone.service.slice
systemctl revert reverted.service
systemctl set-property weight.service CPUWeight=300
echo MemoryHigh=64M >> stale.service
echo Slice=other.slice >> moved.service
ln -sf new.service old.service
rm orphan.service
touch -d '5 minutes ago' .cgroup-layering-0123456789abcdef
mkdir -p system-fill.service.slice.d
printf '[Slice]\\nManagedOOMPreference=none\\n' > system-fill.service.slice.d/50-none.conf
printf '[Slice]\\nConcurrencyHardMax=5\\n' > few.slice
systemctl daemon-reload
systemctl start fill
systemctl set-property written.service 'IOReadBandwidthMax=/dev/vda 1M'
systemctl set-property --runtime tracked.service MemoryMax=100M
echo '{RULE}' >> /etc/nftables.conf
"""
REMEDY = f"""
set -e
cd {UNITS}
rm outranked.service.d/zzz.conf system-masked.service.slice
sed -i /Slice=other/d moved.service
echo OOMPolicy=continue >> policy.service
rm -r system-fill.service.slice.d few.slice /dev/shm/fill
sed -i '/weight.service/d' /etc/nftables.conf
systemctl daemon-reload
cgroup-layering enable masked gone reverted weight stale tracked policy written brief
systemctl restart written
cgroup-layering disable old
cgroup-layering reap
"""
EXPECTED = {
    ("drift-outranked", "outranked"),
    ("drift-slice-file", "masked"),
    ("drift-slice-file", "gone"),
    ("drift-drop-in", "reverted"),
    ("drift-limits", "weight"),
    ("drift-limits", "tracked"),
    ("drift-controller", "tracked"),
    ("drift-stale", "stale"),
    ("drift-refused", "moved"),
    ("drift-alias", "old"),
    ("drift-orphan", "orphan"),
    ("drift-temporary", ""),
    ("drift-cgroup", "left"),
    ("drift-runtime", "brief"),
    ("risk-residue", "fill"),
    ("risk-oomd", "fill"),
    ("risk-oom-policy", "policy"),
    ("risk-path-rule", "weight"),
    ("risk-io", "written"),
}
Found = set[tuple[str, str]]


def found(machine: Machine, *words: str) -> Found:
    """What `doctor` finds about units and the folders of their files; all checks must have run."""
    document = machine.json("doctor", *words)
    assert document["not_run"] == []
    return {
        (finding["code"], (finding["unit"] or "").removesuffix(".service"))
        for finding in document["findings"]
        if not finding["code"].startswith("host-")
    }


@pytest.fixture(scope="module")
def drifted(fresh: Machine) -> Iterator[Machine]:
    """A host with services that were layered, and then everything went wrong at once."""
    for name, text in TEXTS.items():
        fresh.write(f"{UNITS}/{name}.service", text)
    fresh.ok("systemctl daemon-reload")
    fresh.tool_ok("enable", "fill", "limited", *PLAIN)
    fresh.tool_ok("enable", "--tracking=service", "--accept-oom-policy-loss", *SERVICE)
    fresh.tool_ok("enable", "--runtime", "brief")
    fresh.ok(f"systemctl start left limited {' '.join(SERVICE)}")
    fresh.tool_ok("disable", "left")
    fresh.ok("systemctl stop left")
    fresh.ok(DRIFT)
    yield fresh


@pytest.mark.long
def test_drift_and_risks_are_found_and_gone_after_the_remedies(drifted: Machine) -> None:
    limited = {("risk-concurrency", "limited")} if drifted.suite == "forky" else set()
    assert found(drifted) == EXPECTED | limited
    result = drifted.tool("doctor", "weight", "stale", "tracked")
    assert result.code == 1
    assert "CPUWeight=300" in result.out and "tracked.service (MemoryMax=104857600)" in result.out
    drifted.ok(REMEDY)
    assert found(drifted) == set()


@pytest.mark.long
def test_a_copied_root_is_examined_and_freed_of_layers_without_its_systemd(drifted: Machine) -> None:
    root = "/root/copy"
    drifted.ok(
        f"mkdir -p {root}/etc {root}/usr/lib/systemd {root}/run/systemd {root}/usr/lib/x86_64-linux-gnu && "
        f"cp -a /etc/systemd {root}/etc && cp -a /run/systemd/system.control {root}/run/systemd && "
        f"cp -a /usr/lib/systemd/system {root}/usr/lib/systemd && "
        f"cp -a /usr/lib/x86_64-linux-gnu/systemd {root}/usr/lib/x86_64-linux-gnu && "
        f"ln -sf /dev/null {root}{UNITS}/system-stale.service.slice"
    )
    document = drifted.json("doctor", "--root", root)
    assert {(f["code"], f["unit"]) for f in document["findings"]} == {("drift-slice-file", "stale.service")}
    assert "drift-controller" in document["live_only"] and document["not_run"] == []
    before = drifted.manifest()
    drifted.tool_ok("disable", "--root", root, "*")
    assert drifted.run(f"grep -rl 'Written by cgroup-layering' {root}/etc").out == ""
    assert drifted.manifest() == before


@pytest.mark.long
def test_the_hosts_own_program_can_do_it_in_a_chroot_without_a_bus(drifted: Machine) -> None:
    drifted.ok("mount --bind / /mnt && mount --bind /mnt /mnt/mnt")
    result = drifted.run("chroot /mnt cgroup-layering doctor --root /mnt --json short")
    drifted.ok("umount /mnt/mnt /mnt")
    document = json.loads(result.out)
    # The runtime setting that the layer took over is in /run, which such a mount does not have.
    assert {(f["code"], f["unit"]) for f in document["findings"]} == {("drift-stale", "tracked.service")}
    assert document["checks"] == 15 and document["not_run"] == [] and result.err == ""


NOTES = {
    "bookworm": {"host-oomd"},
    "trixie": set[str](),
    "forky": {"host-reparenting", "host-hugetlb"},
}


@pytest.mark.long
def test_a_stock_host_that_was_migrated_and_booted_has_notes_alone(machine: Machine) -> None:
    machine.restore()
    machine.tool_ok("migrate", "--yes")
    assert machine.reboot() == "running"
    document = machine.json("doctor")
    assert document["not_run"] == []
    assert {f["code"] for f in document["findings"]} == NOTES[machine.suite], document["findings"]
    assert machine.tool("doctor", "-q").code == 0


FITS = """[Service]
MemoryMax=64M
ExecStart=python3 -c "import time; held = b'x' * (24 << 20); time.sleep(100000)"
"""


@pytest.mark.long
def test_what_would_not_fit_into_its_layer_is_not_restarted(fresh: Machine) -> None:
    """A service that runs outside of its layer, in which something has left more than it could live with."""
    inside = "/system.slice/system-fits.service.slice"
    fresh.write(f"{UNITS}/fits.service", FITS)
    fresh.ok("systemctl daemon-reload; systemctl start fits")
    try:
        grown = "[ $(systemctl show -P MemoryCurrent fits) -gt 25000000 ]"
        fresh.ok(f"for n in $(seq 100); do {grown} && break; sleep 0.2; done; {grown}")
        fresh.tool_ok("enable", "fits")
        fill = "head -c 50M /dev/urandom > /dev/shm/left"
        fresh.ok(f"systemd-run --quiet --wait --slice=system-fits.service.slice sh -c '{fill}'")
        before = fresh.show("fits", "InvocationID")
        pending = fresh.json("enable", "--now", "fits")["pending"]
        assert list(pending) == ["fits.service"]
        assert "fits.service is not restarted: 50.0M in its layer can't be reclaimed" in pending["fits.service"]
        assert (fresh.show("fits", "InvocationID"), fresh.show("fits", "ActiveState")) == (before, "active")
        fresh.ok("rm /dev/shm/left")
        fresh.tool_ok("enable", "--now", "fits")
        assert fresh.show("fits", "ControlGroup") == f"{inside}/fits.service"
    finally:
        fresh.run("rm -f /dev/shm/left; cgroup-layering disable --now fits; systemctl stop fits")
        fresh.run(f"rm {UNITS}/fits.service; systemctl daemon-reload")
