#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: a small web application behind nginx, that does with memory what its path says.

/read/PATH reads a file, /eat/MIB keeps so much anonymous memory, /free lets go of it, /join/PATH writes its own process
id into a cgroup's cgroup.procs. Every answer is one line.

backend.py PORT serves; backend.py get PATH asks nginx, for up to 20 s until it answers, and prints what is text.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

KEPT: list[bytearray] = []


def answer(verb: str, word: str) -> str:
    """Do what was asked for, and say how it went."""
    try:
        if verb == "read":
            size = 0
            with open(f"/{word}", "rb") as file:
                while piece := file.read(1 << 20):
                    size += len(piece)
            return str(size)
        if verb == "eat":
            KEPT.append(bytearray(b"\1") * (int(word) << 20))
        elif verb == "free":
            KEPT.clear()
        elif verb == "join":
            with open(f"/sys/fs/cgroup/{word}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
    except OSError as error:
        return error.strerror or "failed"
    return "done"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Answer it."""
        _, verb, word = f"{self.path}/".split("/", 2)
        text = f"{answer(verb, word.rstrip('/'))}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def get(path: str) -> str:
    """What nginx answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1/{path}", timeout=300) as reply:
                found = bytes(reply.read())
                return found.decode() if len(found) < 1000 else str(len(found))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__" and sys.argv[1] == "get":
    print(get(sys.argv[2]))
elif __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
