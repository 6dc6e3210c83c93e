#!/usr/bin/env python3
"""What a person sees while a command works: on a terminal of 80 columns every redrawn line fits, and nothing of it is left over; with
NO_COLOR no escape sequence is sent; in a pipe there are plain lines alone. Usage: terminal.py OUT COMMAND..."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

COLUMNS = 80
out, command = sys.argv[1], sys.argv[2:]


def on_terminal(extra):
    """Bytes that the command writes to a terminal as its standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | extra
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the terminal's last writer is gone
            break
        if not piece:
            break
        seen += piece
    if process.wait() != 0:
        sys.exit(f"terminal: the command failed: {seen.decode(errors='replace')[-500:]}")
    return seen.decode()


def screen(seen):
    """Lines as a terminal shows them in the end."""
    lines, column = [""], 0
    for piece in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+|\x1b", seen):
        if piece == "\n":
            lines.append("")
            column = 0
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column].ljust(column) + piece + lines[-1][column + len(piece):]
            column += len(piece)
    return [line.rstrip() for line in lines]


problems = []
for extra in ({}, {"NO_COLOR": "1"}):
    seen = on_terminal(extra)
    bars = [b for b in re.split(r"[\r\n]|\x1b\[K", seen) if re.search(r"\d+/\d+ \[[#.]+\]", b)]
    if not bars:
        problems.append(f"{extra}: no bar was shown")
    if any(len(b.rstrip()) >= COLUMNS for b in bars):
        problems.append(f"{extra}: a bar is as wide as the terminal: {max(bars, key=len)}")
    if not any("ETA " in b and "ETA ?" not in b for b in bars):
        problems.append(f"{extra}: no bar says how long it will take")
    left = [line for line in screen(seen) if re.search(r"\d+/\d+ \[[#.]+\]", line)]
    if left:
        problems.append(f"{extra}: bars are left on the screen: {left}")
    if extra and "\x1b" in seen:
        problems.append("NO_COLOR: escape sequences are sent")
piped = subprocess.run(command, capture_output=True, check=True)
if b"\r" in piped.stderr or b"\x1b" in piped.stderr or re.search(rb"\[[#.]{8,}\]", piped.stderr):
    problems.append(f"a pipe is sent more than plain lines: {piped.stderr[-300:]}")
with open(out, "w") as file:
    file.write("\n".join(problems))
sys.exit(("terminal: " + "; ".join(problems)) if problems else 0)
