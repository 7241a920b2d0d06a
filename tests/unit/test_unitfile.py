# SPDX-License-Identifier: LGPL-2.1-or-later
"""The syntax of unit files, as written down and as systemd itself reads it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_layering.unitfile import SIZE_LIMIT, Setting, UnitFileError, UnitFiles, parse, read, read_text, resolve
from tests.systemd_offline import EXEC, load, needs_systemd

HERE = Path("/etc/systemd/system/hello.service")


def pairs(text: str) -> list[tuple[str, str, str]]:
    return [(s.section, s.key, s.value) for s in parse(text, HERE)]


SYNTAX = {
    "plain": (b"[Unit]\nDescription=a\n", "a"),
    "no newline at the end": (b"[Unit]\nDescription=a", "a"),
    "blanks around": (b" [Unit] \n\tDescription \t=\t a b \t\n", "a b"),
    "continued": (b"[Unit]\nDescription=a\\\nb\n", "a b"),
    "indented continuation": (b"[Unit]\nDescription=a\\\n  b\n", "a   b"),
    "continued at the end of the file": (b"[Unit]\nDescription=a\\", "a"),
    "continued by an empty line": (b"[Unit]\nDescription=a\\\n\nDescription=\n", ""),
    "continued by blanks": (b"[Unit]\nDescription=a\\\n \t \nX=b\n", "a"),
    "even backslashes end a line": (b"[Unit]\nDescription=a\\\\\nb=c\n", "a\\\\"),
    "odd backslashes don't": (b"[Unit]\nDescription=a\\\\\\\nb\n", "a\\\\ b"),
    "a blank behind the backslash": (b"[Unit]\nDescription=a\\ \nb=c\n", "a\\"),
    "comment in a continuation": (b"[Unit]\nDescription=a\\\n# not \\\n  ; this\nb\n", "a b"),
    "comments don't continue": (b"[Unit]\n# x\\\nDescription=a\n; y\\\n", "a"),
    "no trailing comments": (b"[Unit]\nDescription=a # b ; c\n", "a # b ; c"),
    "a section in a continuation": (b"[Unit]\nDescription=a\\\n[Service]\n", "a [Service]"),
    "carriage returns": (b"[Unit]\r\nDescription=a\\\r\nb\r\n", "a b"),
    "carriage returns alone": (b"[Unit]\rDescription=a\r", "a"),
    "the other way round": (b"[Unit]\n\rDescription=a\n\rX=b\n\r", "a"),
    "NUL ends a line": (b"[Unit]\nDescription=a\0b\n", "a"),
    "NUL and on": (b"[Unit]\nDescription=a\0Description=b\0", "b"),
    "NUL behind a newline is part of its end": (b"[Unit]\nDescription=a\\\n\0b\r\n\0", "a b"),
    "NUL in front of a newline is not": (b"[Unit]\nDescription=a\\\0\nb=c\n", "a"),
    "form feeds don't": (b"[Unit]\nDescription=a\x0cDescription=b\n", "a\x0cDescription=b"),
    "nor do other separators": ("[Unit]\nDescription=a\x85b\u2028c\x1cd\n".encode(), "a\x85b\u2028c\x1cd"),
    "no-break space is no blank": ("[Unit]\nDescription=\xa0a\xa0\n".encode(), "\xa0a\xa0"),
    "byte order mark": ("\ufeff[Unit]\nDescription=a\n".encode(), "a"),
    "byte order mark in front of a key": ("[Unit]\n\ufeffDescription=a\n".encode(), "a"),
    "only the first byte order mark": ("[Unit]\n\ufeffX=y\n\ufeffDescription=a\n".encode(), ""),
    "byte order mark in a continuation": ("[Unit]\nDescription=a\\\n\ufeffb\n".encode(), "a b"),
    "quotes are part of the value": (b"[Unit]\nDescription=\"a 'b'\n", "\"a 'b'"),
    "BOM, then comment": ("\ufeff# x\\\nX=y\n[Unit]\nDescription=a\n".encode(), "a"),
    "the last one wins": (b"[Unit]\nDescription=a\nDescription=b\n", "b"),
    "empty resets": (b"[Unit]\nDescription=a\nDescription=\n", ""),
    "no key": (b"[Unit]\nDescription=a\n=b\nword\n", "a"),
    "X- section": (b"[Unit]\nDescription=a\n[X-Unit]\nDescription=b\n", "a"),
    "unknown section": (b"[Unit]\nDescription=a\n[Nit]\nDescription=b\n", "a"),
    "a blank in the section's name": (b"[Unit]\nDescription=a\n[ Unit]\nDescription=b\n", "a"),
    "a section again": (b"[Unit]\nDescription=a\n[Install]\n[Unit]\nDescription=b\n", "b"),
    "nameless section": (b"[Unit]\nDescription=a\n[]\nDescription=b\n", "a"),
    "keys have case": (b"[Unit]\ndescription=b\n", ""),
    "a key is not continued": (b"[Unit]\nDescri\\\nption=b\n", ""),
}


@pytest.mark.parametrize(("text", "value"), SYNTAX.values(), ids=SYNTAX.keys())
def test_syntax(text: bytes, value: str) -> None:
    assert (UnitFiles(parse(text.decode(), HERE)).last("Unit", "Description") or "") == value


@needs_systemd
def test_systemd_reads_the_same(tmp_path: Path) -> None:
    names = {f"t{index}.service": value for index, (_, value) in enumerate(SYNTAX.values())}
    for name, (text, _) in zip(names, SYNTAX.values(), strict=True):
        (tmp_path / name).write_bytes(text)
        (tmp_path / f"{name}.d").mkdir()
        (tmp_path / f"{name}.d/exec.conf").write_text(EXEC)
    found, _ = load([tmp_path], names)
    got = {name: found[name].one("Description") for name in names}
    assert got == {name: value or name for name, value in names.items()}


TOKENS = st.sampled_from(
    (
        *("[Unit]", "[Service]", "[X-A]", "[]", "[", "]", "Description=", "Description = ", "a", "b c", "=", "é"),
        *("\\", "\\\n", "\n", "\r\n", "\r", "\0", " ", "\t", "#", ";", "# x\\\n", "\nDescription=z"),
        *("\ufeff", "\udcff", "\ufdd0", "\U0001ffff", "\x0c"),
    )
)
TEXTS = st.lists(TOKENS, max_size=12).map(lambda tokens: "[Unit]\n" + "".join(tokens) + "\n")


@needs_systemd
@settings(max_examples=12, deadline=None)
@given(st.lists(TEXTS, min_size=20, max_size=40))
def test_systemd_reads_any_text_the_same(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        expected = {}
        for index, text in enumerate(texts):
            name = f"t{index}.service"
            # As a drop-in: systemd takes what stands before a line that it can't read, and drops the rest.
            (root / name).write_text(EXEC)
            (root / f"{name}.d").mkdir()
            (root / f"{name}.d/x.conf").write_bytes(text.encode(errors="surrogateescape"))
            files = read([root / f"{name}.d/x.conf"])
            # Other sections' lines would be complained about, which is not the matter here.
            expected[name] = files.last("Unit", "Description") or name
        found, talk = load([root], expected)
        assert {name: found[name].one("Description") for name in expected} == expected, talk


@pytest.mark.parametrize(
    "broken", [b"Description=\xff", b"[Unit", b"[", b"# \\\n[Unit]x", b"Description=\xed\xa0\x80", "A=\ufdd0".encode()]
)
def test_a_line_that_systemd_cannot_read_ends_the_file(broken: bytes) -> None:
    text = b"[Unit]\nDescription=a\n" + broken + b"\nDescription=b\n"
    assert pairs(text.decode(errors="surrogateescape")) == [("Unit", "Description", "a")]


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_can_be_parsed(data: bytes) -> None:
    for setting in parse(data.decode(errors="surrogateescape"), HERE):
        assert setting.section and setting.key
        assert not {"\n", "\r", "\0"} & set(setting.key + setting.value)
        assert setting.value == setting.value.strip(" \t")
        assert 1 <= setting.line <= data.count(b"\n") + data.count(b"\r") + data.count(b"\0") + 1
        setting.value.encode()


def test_where_a_setting_stands() -> None:
    text = "# one\n[Service]\nA=1 \\\n# four\n 5\nB=2\r\nC=3\n"
    assert [(s.key, s.line) for s in parse(text, HERE)] == [("A", 3), ("B", 6), ("C", 7)]
    assert {s.path for s in parse(text, HERE)} == {HERE}


def test_lists_and_single_values() -> None:
    files = UnitFiles(parse("[Service]\nA=1\nA=2\n[Unit]\nA=3\n[Service]\nA=\nA=4\nB=1\nB=\n", HERE))
    assert [s.value for s in files.all("Service", "A")] == ["4"]
    assert files.last("Service", "A") == "4"
    assert files.last("Unit", "A") == "3"
    assert files.all("Service", "B") == () and files.last("Service", "B") is None and files.has("Service", "B")
    assert not files.has("Service", "C") and files.last("Service", "C") is None


def test_read_keeps_the_order_of_the_files(tmp_path: Path) -> None:
    first, second = tmp_path / "b", tmp_path / "a"
    first.write_text("[Service]\nA=1\n")
    second.write_text("[Service]\nA=2\n")
    cache: dict[Path, tuple[Setting, ...]] = {}
    files = read([first, second], cache)
    assert files.last("Service", "A") == "2" and files.sources == (first, second)
    second.unlink()
    assert read([first, second], cache) == files


def test_read_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UnitFileError, match=rf"^Cannot read the unit file {tmp_path}/absent: No such file"):
        read_text(tmp_path / "absent")
    with pytest.raises(UnitFileError, match="Is a directory"):
        read_text(tmp_path)
    big = tmp_path / "big"
    big.write_bytes(b"#" * SIZE_LIMIT)
    assert len(read_text(big)) == SIZE_LIMIT
    big.write_bytes(b"#" * (SIZE_LIMIT + 1))
    with pytest.raises(UnitFileError, match="more than"):
        read_text(big)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("%i", "x"),
        ("a%%b", "a%b"),
        ("%%i", "%i"),
        ("50%", "50%"),
        ("%i%i %n", "xx a@x.service"),
        ("%h", None),
        ("%", "%"),
        ("a%é", None),
    ],
)
def test_specifiers(value: str, result: str | None) -> None:
    assert resolve(value, {"i": "x", "n": "a@x.service", "%": "%"}) == result
