"""The manual pages: clean, and complete against the programs and the readers of their files."""
import re
import subprocess

import pytest

from conftest import BIN, ROOT

MAN = ROOT / "packaging/man"
PAGES = sorted(MAN.iterdir())
# Lines are as long as elsewhere in this tree, tables are called as they are written, and our own
# pages are installed with the programs.
ACCEPTED = [r"input text line longer than 80 bytes", r"trailing delimiter: Ss \[\w+\]",
            r"outdated mandoc\.db", *(f"referenced manual not found: Xr {re.escape(p.stem)} "
                                      + p.suffix[1:] for p in PAGES)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_mandoc_has_no_complaint(page):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", page], text=True,
                          capture_output=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines()
                  if not any(re.search(accepted, line) for accepted in ACCEPTED)]
    assert complaints == []


def rendered(page):
    text = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=900", page], check=True,
                          text=True, capture_output=True).stdout
    return re.sub(".\x08", "", text)  # bold and underlined by overstriking


# --- commands and options: asked from the programs, which complete them for shells ---


def offered(program, *words):
    lines = subprocess.run([BIN / program, "__complete", *words], check=True, text=True,
                           capture_output=True).stdout.splitlines()
    return [line.split("\t") for line in lines[:-1]]


def tree(program, *words):
    """All commands as tuples of words, each with its options."""
    yield words, {line[0] for line in offered(program, *words, "--")}
    for line in offered(program, *words, ""):
        if len(line) == 2:  # values have no description
            yield from tree(program, *words, line[0])


@pytest.mark.parametrize("program, page", [("culvert", "culvert.1"), ("culvertd", "culvertd.8")])
def test_every_command_and_option_is_described(program, page):
    text = rendered(MAN / page)
    commands = dict(tree(program))
    assert len(commands) > 8
    undescribed = [" ".join(words) for words in commands
                   if not re.search(rf"\b{' '.join(words)}\b", text)]
    assert undescribed == []
    options = set().union(*commands.values())
    described = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert sorted(options - described) == [], "not in the page"
    # Marked up as options: those of other programs only stand in examples.
    lines = [line for line in (MAN / page).read_text().splitlines() if re.match(r"\..*\bFl ", line)]
    marked = {f"-{option}" for option in re.findall(r"(?<= )-[a-z][a-z0-9-]+", "\n".join(lines))}
    assert sorted(marked - options) == [], "the program has no such option"


# --- keys of files: as the sources read them ---

# A reader's method, or a function that is handed the reader; has() and the like read nothing.
READ = re.compile(r'\breader(?:\.(\w+)\(|,)\s*("?)([\w.]+)')
NO_READING = {"has", "is_string", "problem", "where", "finish", "table_keys"}


def keys_read(source):
    keys = set()
    for method, quote, key in READ.findall((ROOT / source).read_text()):
        if method in NO_READING or not method and not quote:
            continue
        assert quote or key == "key", f"{source}: {key} is read and cannot be seen by this test"
        if quote:
            keys.add(key)
    assert len(keys) > 2, source
    return keys


def keys_described(page, section=None):
    """The items of the lists of keys, with their tables before them."""
    table, keys, inside = "", set(), section is None
    for line in (MAN / page).read_text().splitlines():
        if line.startswith(".Sh "):
            inside = line == f".Sh {section}" if section else line == ".Sh DESCRIPTION"
            table = ""
        heading = re.match(r"\.Ss \[(\w+)\]|\.Bq Ic (\w+)", line)
        if heading:
            table = (heading[1] or heading[2]) + "."
        item = re.match(r"\.It Ic ([\w ,]+?)(?: Pq .*| No .*)?$", line)
        if inside and item:
            keys |= {table + key for key in item[1].split(" , ")}
    return keys


@pytest.mark.parametrize("source, page, section", [
    ("server/config.cc", "culvertd.toml.5", None),
    ("server/users.cc", "culvertd.toml.5", "USERS"),
    ("client/profile.cc", "culvert-profile.5", None)])
def test_every_key_is_described(source, page, section):
    read, described = keys_read(source), keys_described(page, section)
    assert sorted(read - described) == [], "not in the page"
    assert sorted(described - read) == [], "nobody reads it"
