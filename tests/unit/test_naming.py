# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names: systemd's rules, and the reversible way from a service to its layer."""

from __future__ import annotations

import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cgroup_layering import naming
from cgroup_layering.naming import InvalidName, NameTooLong
from tests.systemd_offline import EXEC, load, needs_systemd

BOUNDED = settings(max_examples=100, deadline=None)
PART = st.text(string.ascii_letters + string.digits + ":_.\\-", min_size=1, max_size=40)
SERVICES = st.one_of(
    PART.map("{}.service".format),
    st.builds("{}@{}.service".format, PART, st.text(string.ascii_letters + string.digits + ":_.\\-@", max_size=40)),
)
SLICES = st.lists(st.text(string.ascii_letters + string.digits + ":_.", min_size=1, max_size=8), max_size=4).map(
    lambda parts: f"{'-'.join(parts) or '-'}.slice"
)

ESCAPED = {
    "hello.service": "hello.service",
    "foo-bar.service": r"foo\x2dbar.service",
    "postgresql@17-main.service": r"postgresql\x4017\x2dmain.service",
    r"systemd-fsck@dev-disk-by\x2duuid-1.service": r"systemd\x2dfsck\x40dev\x2ddisk\x2dby\x5cx2duuid\x2d1.service",
    ".hidden.service": r"\x2ehidden.service",
    "a:b_c.d.service": "a:b_c.d.service",
    "": "",
}


@pytest.mark.parametrize(("name", "escaped"), ESCAPED.items())
def test_escape(name: str, escaped: str) -> None:
    assert naming.escape(name) == escaped
    assert naming.unescape(escaped) == name


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="there is no systemd-escape on this machine")
@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.one_of(SERVICES, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))), min_size=20
    )
)
def test_escape_is_systemds(words: list[str]) -> None:
    words = [word for word in words if word]
    assume(words)
    done = subprocess.run(["systemd-escape", "--", *words], capture_output=True, timeout=30, check=True)
    assert [naming.escape(word) for word in words] == done.stdout.decode().removesuffix("\n").split(" ")


@BOUNDED
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_unescape_is_the_inverse(text: str) -> None:
    assume("/" not in text or "-" not in text)
    assert naming.unescape(naming.escape(text)) == text


@pytest.mark.parametrize("text", ["\\", r"\x2", r"\x2D", r"a\y", r"\x", r"a\x2d\\"])
def test_bad_escapes_are_no_escapes(text: str) -> None:
    with pytest.raises(ValueError, match="stray backslash"):
        naming.unescape(text)


def test_escaped_bytes_that_are_no_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        naming.unescape(r"\xff")


@BOUNDED
@given(SERVICES, SLICES)
@example("hello.service", "-.slice")
@example("a@b.service", "system-a.slice")
def test_a_layers_name_leads_back_to_its_service(unit: str, parent: str) -> None:
    assume(naming.is_service_name(unit) and naming.is_slice_name(parent))
    try:
        layer = naming.layer_name(unit, parent)
    except NameTooLong as error:
        assert len(error.layer) > 255 and unit in str(error) and "255" in str(error)
        return
    assert naming.is_slice_name(layer)
    assert naming.split_layer(layer) == (unit, parent)
    assert naming.slice_path(layer).startswith(naming.slice_path(parent).rstrip("/") + "/")
    assert naming.ancestors(layer)[0] == parent
    assert naming.slice_path(layer).count("/") == len(naming.ancestors(layer))


@BOUNDED
@given(SERVICES, SERVICES)
def test_no_two_services_share_a_layer(one: str, other: str) -> None:
    assume(one != other)
    assert naming.escape(one) != naming.escape(other)


LAYERS = {
    ("hello.service", "system.slice"): "system-hello.service.slice",
    ("hello.service", "-.slice"): "hello.service.slice",
    ("foo-bar.service", "foo.slice"): r"foo-foo\x2dbar.service.slice",
    ("postgresql@17-main.service", "system-postgresql.slice"): (
        r"system-postgresql-postgresql\x4017\x2dmain.service.slice"
    ),
    ("getty@tty1.service", "system-getty.slice"): r"system-getty-getty\x40tty1.service.slice",
}


@pytest.mark.parametrize(("pair", "layer"), LAYERS.items())
def test_layer_name(pair: tuple[str, str], layer: str) -> None:
    assert naming.layer_name(*pair) == layer
    assert naming.split_layer(layer) == pair


@pytest.mark.parametrize(
    "name",
    [
        "-.slice",
        "system.slice",
        "system-postgresql.slice",
        "user-1000.slice",
        "hello.service",
        "system-hello.socket.slice",
        "system--hello.service.slice",
        "system-hello.service",
        r"system-\x68ello.service.slice",  # nobody would escape an h: systemd's own name for another slice
        r"system-\xff.service.slice",
        r"system-a\x2.service.slice",
        "system-.slice",
        "a/b.service.slice",
        "",
    ],
)
def test_what_is_no_layers_name(name: str) -> None:
    assert naming.split_layer(name) is None


def test_the_limit_is_systemds() -> None:
    fits = "a" * (255 - len("system-.service.slice")) + ".service"
    assert len(naming.layer_name(fits, "system.slice")) == 255
    with pytest.raises(NameTooLong, match="would have 256 bytes"):
        naming.layer_name("a" + fits, "system.slice")
    assert len(naming.layer_name("a" * 7 + fits, "-.slice")) == 255
    assert naming.is_service_name("a" * 247 + ".service") and not naming.is_service_name("a" * 248 + ".service")
    assert naming.is_slice_name("a" * 249 + ".slice") and not naming.is_slice_name("a" * 250 + ".slice")


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a.service", True),
        ("a@.service", True),
        ("a@b@c.service", True),
        (r"a\x2db@c\x2dd.service", True),
        ("-a-.service", True),
        (".service", False),
        ("@.service", False),
        ("@a.service", False),
        ("a.socket", False),
        ("a b.service", False),
        ("a/b.service", False),
        ("é.service", False),
        ("a.service\n", False),
        ("a%n.service", False),
        ("a*.service", False),
        ("", False),
    ],
)
def test_service_names(name: str, valid: bool) -> None:
    assert naming.is_service_name(name) is valid


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("-.slice", True),
        ("system.slice", True),
        ("a-b.c.slice", True),
        (r"a\x2db.slice", True),
        ("--.slice", False),
        ("-a.slice", False),
        ("a-.slice", False),
        ("a--b.slice", False),
        ("a@b.slice", False),
        ("a.service", False),
        (".slice", False),
        ("a.slice\n", False),
        ("é.slice", False),
    ],
)
def test_slice_names(name: str, valid: bool) -> None:
    assert naming.is_slice_name(name) is valid


@needs_systemd
def test_systemd_takes_the_slices_that_are_called_valid(tmp_path: Path) -> None:
    names = ["-.slice", "a-b.c.slice", r"a\x2db.slice", "--.slice", "-a.slice", "a-.slice", "a--b.slice", "a@b.slice"]
    names += ["a" * 249 + ".slice", "a" * 250 + ".slice", "é.slice", "a.service", ".slice"]
    units = {f"t{index}.service": name for index, name in enumerate(names)}
    for unit, name in units.items():
        (tmp_path / unit).write_text(f"{EXEC}Slice={name}\n")
    found, _ = load([tmp_path], [*units, *(name for name in names if len(name) < 256)])
    # Dashes too many: the service gets the slice, but nothing can start a slice that can't be loaded.
    taken = {name for unit, name in units.items() if found[unit].one("Slice") == name and name in found}
    assert taken == {name for name in names if naming.is_slice_name(name)}


@needs_systemd
def test_default_slices_are_systemds(tmp_path: Path) -> None:
    for name in ("plain.service", "a@.service", "a-b@.service", r"a\x2db@.service", "a.b@.service"):
        (tmp_path / name).write_text(EXEC)
    units = ["plain.service", "a@x.service", "a-b@x-y.service", r"a\x2db@x.service", "a.b@x.service"]
    found, _ = load([tmp_path], units)
    assert {unit: found[unit].one("Slice") for unit in units} == {unit: naming.default_slice(unit) for unit in units}


def test_slice_path() -> None:
    assert naming.slice_path("-.slice") == "/"
    assert naming.slice_path("system.slice") == "/system.slice"
    assert naming.slice_path("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"


def test_ancestors() -> None:
    assert naming.ancestors("a-b-c.slice") == ("a-b.slice", "a.slice", "-.slice")
    assert naming.ancestors("system.slice") == ("-.slice",)
    assert naming.ancestors("-.slice") == ()


def test_parts_of_names() -> None:
    assert naming.is_template("a@.service") and not naming.is_template("a@b.service")
    assert naming.prefix_of("a-b@c@d.service") == "a-b" and naming.prefix_of("a.service") == "a"
    assert naming.instance_of("a@c@d.service") == "c@d"
    assert naming.instance_of("a@.service") is None and naming.instance_of("a.service") is None
    assert naming.template_of("a@b.service") == "a@.service" and naming.template_of("a@.service") is None


@pytest.mark.parametrize(
    ("word", "name"),
    [("nginx", "nginx.service"), ("nginx.service", "nginx.service"), ("a@b", "a@b.service"), ("a.b", "a.b.service")],
)
def test_words_for_services(word: str, name: str) -> None:
    assert naming.service_name(word) == name


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("nginx.socket", "socket unit"),
        ("system.slice", "slice unit"),
        ("a.timer", "timer unit"),
        ("a b", "letters"),
        ("../etc/passwd", "letters"),
        ("", "letters"),
        ("é", "letters"),
        ("a\0", "letters"),
        ("a" * 248, "256 bytes"),
    ],
)
def test_words_that_are_none(word: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=reason) as caught:
        naming.service_name(word)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@BOUNDED
@given(st.text())
def test_any_word_is_a_service_or_refused(word: str) -> None:
    try:
        assert naming.is_service_name(naming.service_name(word))
    except InvalidName as error:
        assert error.exit_code == 2


@pytest.mark.parametrize(("word", "glob"), [("a*", True), ("a?b", True), ("a[bc]", True), ("a", False), ("a/*", False)])
def test_globs(word: str, glob: bool) -> None:
    assert naming.is_glob(word) is glob
