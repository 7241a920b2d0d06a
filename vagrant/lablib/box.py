# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boxes: Debian trees from mmdebstrap, put on a disk and handed to Vagrant, keyed by a hash of their recipe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lablib.paths import HERE, cache, public_box, ssh_key, vagrant_home
from lablib.run import lock, logged, output, say

CMDLINE = "root=/dev/vda rw console=ttyS0"
_DISK_GIB = 8
_RECIPE = HERE / "box"


@dataclass(frozen=True)
class Box:
    """A box that Vagrant has; `folder` holds box.img, vmlinuz, initrd and cmdline, or is None for a public box."""

    name: str
    folder: Path | None


def ensure(suite: str) -> Box:
    """The box of `suite`, built if it isn't there. LabError if a step of the build fails."""
    public = public_box(suite)
    if public:
        return Box(public, None)
    name = f"cgroup-layering-{suite}-{_recipe_hash(suite)}"
    folder = vagrant_home() / "boxes" / name / "0" / "libvirt"
    with lock(f"box-{suite}"):
        if not (folder / "box.img").exists():
            _build(suite, name)
    return Box(name, folder)


def ensure_key() -> None:
    """Make the lab's ssh key unless it is there."""
    with lock("key"):
        if not ssh_key().exists():
            ssh_key().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cgroup-layering-lab", "-f", str(ssh_key())])


def packages() -> list[str]:
    """Names of the packages that every box carries beside the essential ones."""
    lines = (_RECIPE / "packages").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _public_key() -> Path:
    return ssh_key().with_suffix(".pub")


def _recipe_hash(suite: str) -> str:
    ensure_key()
    digest = hashlib.sha256()
    for path in (*sorted(_RECIPE.iterdir()), Path(__file__), _public_key()):
        digest.update(path.read_bytes())
    return hashlib.sha256(digest.digest() + suite.encode()).hexdigest()[:12]


def _build(suite: str, name: str) -> None:
    work = cache() / "build"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=work) as scratch:
        stage = Path(scratch)
        tree, box = stage / "tree", stage / "box"
        box.mkdir()
        say("building the box: packages (about a minute)", suite)
        _make_tree(suite, tree)
        say("building the box: disk", suite)
        # Only now, as mmdebstrap empties the machine id; an empty one would make systemd run its presets at first boot.
        (tree / "etc" / "machine-id").write_text(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() + "\n")
        for kind, target in (("vmlinuz", "vmlinuz"), ("initrd.img", "initrd")):
            shutil.copy(next((tree / "boot").glob(f"{kind}-*")), box / target)
        raw = stage / "disk.raw"
        logged(["mkfs.ext4", "-q", "-F", "-d", str(tree), str(raw), f"{_DISK_GIB}G"], f"disk-{suite}")
        output(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(box / "box.img")])
        (box / "cmdline").write_text(CMDLINE + "\n")
        shutil.copy(_RECIPE / "Vagrantfile", box / "Vagrantfile")
        facts = {"provider": "libvirt", "format": "qcow2", "virtual_size": _DISK_GIB}
        (box / "metadata.json").write_text(json.dumps(facts))
        archive = stage / "lab.box"
        output(["tar", "-C", str(box), "-cf", str(archive), *sorted(os.listdir(box))])
        say("building the box: handing it to Vagrant", suite)
        logged(
            ["vagrant", "box", "add", "--force", "--provider", "libvirt", "--name", name, str(archive)],
            f"box-add-{suite}",
            {"VAGRANT_HOME": str(vagrant_home()), "VAGRANT_CWD": str(stage)},
        )
    say(f"box {name} is built", suite)


def _make_tree(suite: str, tree: Path) -> None:
    hook = f'"{_RECIPE / "customize"}" "$1" {suite} "{_public_key()}"'
    logged(
        [
            "mmdebstrap", "--mode=root", "--variant=minbase", "--include=" + ",".join(packages()),
            # The Release file of a release in the making can be past its date.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            f"--customize-hook={hook}", suite, str(tree),
        ],
        f"mmdebstrap-{suite}",
        {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
