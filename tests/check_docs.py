#!/usr/bin/env python3
"""Holds the Markdown of the tree to rules that a reader feels: lines of at most 100 characters, paragraphs of at most 80
words, sentences of at most 50, table cells of at most 100 characters, links and anchors that resolve. With a program every `vggflow`
line of a code block is read by it: known command, flags and keys.
Usage: check_docs.py SOURCE_DIR [PROGRAM]"""
import pathlib
import re
import shlex
import subprocess
import sys

LINE, PARAGRAPH, SENTENCE, CELL = 100, 80, 50, 100
FENCE = re.compile(r"^\s*(```|~~~)(.*)$")
ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s+")
ABBREVIATIONS = ("e.g.", "i.e.", "Eq.", "Eqs.", "vs.", "cf.", "Fig.", "App.", "no.", "al.")


def markdown_files(root):
    """The Markdown files of the tree, without what a build or an environment made."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True)
    if listed.returncode == 0:
        return [root / name for name in sorted(set(listed.stdout.split("\n"))) if name and (root / name).is_file()]
    left_out = ("build", "runs", "site")
    return [p for p in sorted(root.rglob("*.md")) if not any(q.startswith(".") or q in left_out for q in p.relative_to(root).parts)]


def blocks(text):
    """(kind, number of the first line, lines) of each block; kinds: code, table, heading, text."""
    lines, i = text.split("\n"), 0
    while i < len(lines):
        start = i
        if FENCE.match(lines[i]):
            i += 1
            while i < len(lines) and not FENCE.match(lines[i]):
                i += 1
            i += 1
            yield "code", start + 1, lines[start:i]
        elif not lines[i].strip():
            i += 1
        elif re.match(r"#{1,6} ", lines[i]):
            i += 1
            yield "heading", start + 1, lines[start:i]
        elif lines[i].lstrip().startswith("|"):
            while i < len(lines) and lines[i].lstrip().startswith("|"):
                i += 1
            yield "table", start + 1, lines[start:i]
        else:
            i += 1
            while i < len(lines) and lines[i].strip() and not ITEM.match(lines[i]) and not re.match(r"\s*(\||#{1,6} |```|~~~)", lines[i]):
                i += 1
            yield "text", start + 1, lines[start:i]


def sentences(text):
    """Lengths in words of the sentences of a paragraph; a code span is one word, and a setting's name and type before its text are none."""
    text = re.sub(r"^- `[^`]*` \([^)]*\): ", "", text)
    words, length = re.sub(r"`[^`]*`", "`code`", text).split(), 0
    for word, following in zip(words, words[1:] + ["."]):
        length += 1
        bare = word.rstrip("\"')*_]")
        if bare.endswith((".", "!", "?", ":")) and bare not in ABBREVIATIONS and re.match(r"[\[\"'(*`_]*[A-Z0-9`.$]", following):
            yield length
            length = 0
    yield length


def cells(row):
    return [c.strip() for c in row.replace("\\|", "¦").strip().strip("|").split("|")]


def anchors(text):
    """The anchors that GitHub and MkDocs make of a page's headings."""
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for kind, _, lines in blocks(text):
        if kind == "heading":
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", lines[0].lstrip("# ")).lower()
            found.add(re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-"))
    return found


def without_code(lines):
    return re.sub(r"`[^`\n]*`", "", "\n".join(lines))


class Checker:
    def __init__(self, root, program):
        self.root, self.program, self.problems, self.commands, self.known = root, program, [], 0, {}

    def say(self, path, number, text):
        self.problems.append(f"{path.relative_to(self.root)}:{number}: {text}")

    def page(self, path):
        text = path.read_text()
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > LINE and not line.lstrip().startswith("|"):
                self.say(path, number, f"{len(line)} characters; expected at most {LINE}")
        for kind, number, lines in blocks(text):
            if kind == "text":
                self.prose(path, number, " ".join(lines))
            elif kind == "table":
                self.table(path, number, lines)
            elif kind == "code" and self.program:
                self.code(path, number, lines)
            if kind in ("text", "table"):
                self.links(path, number, lines)

    def prose(self, path, number, text):
        words = len(text.split())
        if words > PARAGRAPH:
            self.say(path, number, f"a paragraph of {words} words; expected at most {PARAGRAPH}")
        longest = max(sentences(text))
        if longest > SENTENCE:
            self.say(path, number, f"a sentence of {longest} words; expected at most {SENTENCE}")

    def table(self, path, number, lines):
        if cells(lines[0])[:2] == ["layer", "may know"]:
            return  # tests/check_layers.py reads it: lists of names
        for i, row in enumerate(lines):
            longest = max(map(len, cells(row)))
            if longest > CELL:
                self.say(path, number + i, f"a table cell of {longest} characters; expected at most {CELL}, or a list")

    def links(self, path, number, lines):
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", without_code(lines)):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            name, _, anchor = target.partition("#")
            file = path if not name else (path.parent / name)
            if not file.exists():
                self.say(path, number, f"the link {target} leads nowhere")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                self.say(path, number, f"{name or path.name} has no heading #{anchor}")

    def code(self, path, number, lines):
        text = "\n".join(lines[1:-1]).replace("\\\n", " ")
        for line, following in zip(text.split("\n"), [*text.split("\n")[1:], ""]):
            command = re.match(r"\s*\$?\s*(?:[A-Z_]+=\S+ )*(?:\S*/)?vggflow (\w.*|--\w.*)$", line)
            if command and not following.startswith("vggflow: "):  # whose refusal is shown
                self.command(path, number, command.group(1))

    def command(self, path, number, line):
        """The program's own help reads every word first, and refuses unknown flags; the keys are those that it lists."""
        line = re.split(r"\s# |\s[|>&;]|\s2>", line + " ")[0].strip()
        if line.startswith("COMMAND") or "[key=value ...]" in line:  # a synopsis
            return
        words = [w for w in shlex.split(line) if w != "..."]
        self.commands += 1
        if words[0].startswith("-") or words[-1].startswith("--help"):
            return self.run(path, number, line, words)
        for i, word in enumerate(words):
            if word == "--config" and not words[i + 1].startswith("configs/"):
                words[i + 1] = "configs/nano.yaml"  # a reader's own file
        self.run(path, number, line, [*words, "--help"])
        unknown = [k for k in re.findall(r"^([a-z][\w.-]*)=", "\n".join(words[1:]), re.M) if k not in self.keys(words[0]) | {"trust"}]
        if unknown and words[0] != "compare":  # which reads every key of a run
            self.say(path, number, f"'vggflow {line}' names {', '.join(unknown)}, which vggflow {words[0]} --help-all does not")

    def run(self, path, number, line, words):
        done = subprocess.run([self.program, *words], cwd=self.root, capture_output=True, text=True)
        if done.returncode:
            self.say(path, number, f"'vggflow {line}' is refused: {done.stderr.strip()}")

    def keys(self, command):
        if command not in self.known:
            text = subprocess.run([self.program, command, "--help-all"], capture_output=True, text=True).stdout
            self.known[command] = set(re.findall(r"^  ([a-z][\w.]*)=", text, re.M))
        return self.known[command]


def main():
    root, program = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else None
    checker = Checker(root, program)
    files = markdown_files(root)
    for path in files:
        checker.page(path)
    print("\n".join(checker.problems) or f"{len(files)} pages follow the rules; {checker.commands} commands are known to the program")
    sys.exit(bool(checker.problems))


if __name__ == "__main__":
    main()
