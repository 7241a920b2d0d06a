# SPDX-License-Identifier: LGPL-2.1-or-later
"""Entry point of `cgroup-layering` and of `python3 -m cgroup_layering`."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from cgroup_layering import interrupts
from cgroup_layering.errors import CgroupLayeringError, ExitCode, Interrupted


def main() -> NoReturn:
    """Run the command line; every expected error becomes a sentence on stderr and an exit code."""
    interrupts.install()
    # Files get their modes explicitly; nothing else may come out wider than this.
    os.umask(0o022)
    from cgroup_layering.cli.main import cli

    try:
        code = cli.main(prog_name="cgroup-layering", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else ExitCode.OK)
    except CgroupLayeringError as error:
        _fail(str(error), error.hint, error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Interrupted as error:
        hint = "`cgroup-layering status` shows what is layered and what is pending."
        _fail("Interrupted.", hint, 128 + error.number)
    except Exception as error:
        import click

        if isinstance(error, click.exceptions.Exit):
            sys.exit(error.exit_code)
        if isinstance(error, click.Abort):
            _fail("Aborted; nothing was changed.", "", ExitCode.FAILURE)
        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(error.exit_code)
        raise


def _fail(sentence: str, hint: str, code: int) -> NoReturn:
    # Names of files and words of others may be part of it.
    from cgroup_layering.output.tables import printable

    print(f"cgroup-layering: {printable(sentence)}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
