"""Completion in the shells: the scripts that the programs print, in a real bash."""
import os
import pty
import select
import shutil
import signal
import subprocess

import pytest

from conftest import BIN
from harness.wait import wait_until

PROGRAMS = ["culvert", "culvertd"]
SHELLS = ["bash", "zsh", "fish"]


def script(program, shell):
    return subprocess.run([BIN / program, "completion", shell], check=True, text=True,
                          capture_output=True).stdout


def offered(program, *words):
    """The program's own answer: {candidate: description}, and what the shell may offer instead."""
    lines = subprocess.run([BIN / program, "__complete", *words], check=True, text=True,
                           capture_output=True).stdout.splitlines()
    return dict((line + "\t").split("\t")[:2] for line in lines[:-1]), lines[-1]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Profiles and users to complete, in a folder that is the working directory."""
    for file in ["etc/client/alice.toml", "etc/client/office.toml", "users/alice.toml",
                 "users/bob.toml", "users/alice@example.com.toml", "users/.hidden.toml"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CULVERT_CONFIG_DIR", str(tmp_path / "etc"))
    monkeypatch.setenv("CULVERT_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    return tmp_path


def in_bash(line, *pieces):
    """What bash would insert for the last of `pieces`, as it splits `line` at COMP_WORDBREAKS."""
    program = pieces[0]
    code = (script(program, "bash") + 'COMP_LINE=$1 COMP_POINT=${#1}; shift; COMP_WORDS=("$@")\n'
            f'COMP_CWORD=$(($# - 1))\n_{program}\nprintf "%s\\n" "${{COMPREPLY[@]}}"')
    done = subprocess.run(["bash", "-uc", code, "bash", line, *pieces], check=True, text=True,
                          capture_output=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_in_order(program, shell):
    text = script(program, shell)
    assert "%P" not in text and f"{program} __complete" not in text and "__complete" in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)
    else:
        # Those shells are not needed for the tests: what can be seen from outside.
        start, end = {"zsh": (f"#compdef {program}\n", f"  compdef _{program} {program}\nfi\n"),
                      "fish": ("# fish", f"complete -c {program} -f -a '(__{program}_complete)'\n")
                      }[shell]
        assert text.startswith(start) and text.endswith(end)


@pytest.mark.parametrize("line, pieces, inserted", [
    ("culvert con", ["culvert", "con"], ["connect"]),
    ("culvert connect ", ["culvert", "connect", ""], ["alice", "office"]),
    ("culvert  remove   of", ["culvert", "remove", "of"], ["office"]),
    ("culvert --log-level=de", ["culvert", "--log-level", "=", "de"], ["debug"]),
    ("culvert --log-format=", ["culvert", "--log-format", "="], ["text", "json"]),
    ("culvert --log-format json lis", ["culvert", "--log-format", "json", "lis"], ["list"]),
    ("culvert connect --ca", ["culvert", "connect", "--ca"], ["--ca"]),
    ("culvert import ", ["culvert", "import", ""], []),
    ("culvertd user rev", ["culvertd", "user", "rev"], ["revoke"]),
    ("culvertd user revoke --dir . al", ["culvertd", "user", "revoke", "--dir", ".", "al"],
     ["alice", "alice@example.com"]),
    ("culvertd user revoke -c ./x.toml b", ["culvertd", "user", "revoke", "-c", "./x.toml", "b"],
     ["bob"]),
    ("culvertd user revoke --dir . alice@e",
     ["culvertd", "user", "revoke", "--dir", ".", "alice", "@", "e"], ["example.com"]),
    ("culvertd check --di", ["culvertd", "check", "--di"], ["--dir"]),
    ("culvertd completion ", ["culvertd", "completion", ""], SHELLS),
])
def test_bash_inserts(places, line, pieces, inserted):
    assert in_bash(line, *pieces) == inserted


def test_tab_in_a_real_terminal(places):
    (places / "profiles of mine").mkdir()
    (places / "rc").write_text("PS1='$ '\n" + script("culvert", "bash"))
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("bash", ["bash", "--rcfile", "rc", "-i"], {
            **os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""})
    seen = bytearray()

    def shows(text):
        while select.select([terminal], [], [], 0)[0]:
            seen.extend(os.read(terminal, 4096))
        return text in seen.replace(b"\r", b"").replace(b"\a", b"")

    try:
        wait_until(lambda: shows(b"$ "), "the prompt")
        for typed, shown in [(b"culvert conn\t", b"culvert connect "), (b"off\t", b"office "),
                             (b"--log-level=inf\t", b"--log-level=info "),
                             (b"--c\t", b"--c"), (b"rl prof\t", b"rl profiles\\ of\\ mine/")]:
            seen.clear()
            os.write(terminal, typed)
            wait_until(lambda: shows(shown), lambda: f"{shown} after {typed}, but {seen}")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_offered_is_what_is_parsed(program):
    """Every command that is offered exists, and its help names the options that are offered."""
    def visit(*words):
        help_text = subprocess.run([BIN / program, *words, "--help"], check=True, text=True,
                                   capture_output=True).stdout
        options = offered(program, *words, "--")[0]
        own = [o for o in options if o in help_text]
        assert "--help" in own and {"--log-level", "--log-format", "--version"} <= set(options)
        for command, description in offered(program, *words, "")[0].items():
            if description:  # values have none
                assert command in help_text
                visit(*words, command)
    visit()


@pytest.mark.parametrize("words", [["", "", ""], ["--", "-"], ["-"], ["="], ["--=", "--="],
                                   ["user", "add", "--dir"], ["\n\t", "é"], []])
@pytest.mark.parametrize("program", PROGRAMS)
def test_nonsense_on_the_line_is_no_error(program, words):
    candidates, otherwise = offered(program, *words)
    assert otherwise in (":nothing", ":files", ":folders")


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_shells_are_refused(program):
    done = subprocess.run([BIN / program, "completion", "tcsh"], text=True, capture_output=True)
    assert done.returncode == 2 and "bash" in done.stderr
