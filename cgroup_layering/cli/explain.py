# SPDX-License-Identifier: LGPL-2.1-or-later
"""`explain`: what a code means, why it matters and what to do."""

from __future__ import annotations

from difflib import get_close_matches

import click
import click.shell_completion

from cgroup_layering.cli.options import output_options
from cgroup_layering.codes.every import all_codes
from cgroup_layering.output.explanations import as_json, page, plain
from cgroup_layering.output.tables import Output


class CodeWord(click.ParamType):
    """A code, as `plan` and `doctor` print them."""

    name = "CODE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The code."""
        codes = all_codes()
        if value not in codes:
            near = get_close_matches(value, codes, 1)
            hint = f" Is it {near[0]}?" if near else " Without a code, `explain` lists all."
            raise click.UsageError(f"There is no code {value!r}.{hint}", ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Codes that begin so."""
        return [
            click.shell_completion.CompletionItem(name, help=code.summary)
            for name, code in all_codes().items()
            if name.startswith(incomplete)
        ]


@click.command("explain")
@click.argument("words", metavar="[CODE]...", nargs=-1, type=CodeWord())
@output_options
def command(words: tuple[str, ...], output: Output) -> int:
    """Tell what a code of plan or doctor means, why it matters and what to do. Without CODE, list all."""
    codes = all_codes()
    chosen = [codes[word] for word in words] or list(codes.values())
    if output.json != "off":
        output.document({"codes": [as_json(code) for code in chosen]})
    elif words:
        print("\n\n".join(page(code) for code in chosen))
    else:
        rows = [
            (code.name, f"{code.kind}, {code.level}" if code.level else code.kind, plain(code.summary))
            for code in chosen
        ]
        output.table(("CODE", "KIND", "MEANING"), rows, f"{len(rows)} codes.")
    return 0
