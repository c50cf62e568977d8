"""Our two programs, as tests use them."""
import json
import os
import pathlib
import signal
import tomllib

from harness import certs
from harness.wait import wait_until

NAME = "vpn.example.com"
PORT = 443
INSIDE4, INSIDE6 = "10.99.0.1", "fd99::1"


def toml_text(table):
    """A dictionary as TOML: what configuration files hold, no more."""
    def value(v):
        if isinstance(v, bool):
            return "true" if v else "false"
        if isinstance(v, (int, float)):
            return str(v)
        if isinstance(v, list):
            return "[" + ", ".join(value(x) for x in v) + "]"
        if "\n" in v:
            return "'''\n" + v + "'''"
        return json.dumps(v)

    def lines(table, prefix):
        for k, v in table.items():
            if not isinstance(v, dict):
                yield f"{k} = {value(v)}"
        for k, v in table.items():
            if isinstance(v, dict):
                yield f"\n[{prefix}{k}]"
                yield from lines(v, f"{prefix}{k}.")
    return "\n".join(lines(table, "")) + "\n"


class Server:
    def __init__(self, host):
        self.host = host
        self.dir = host.dir / "culvertd"
        self.program = host.world.bin / "culvertd"
        self.process = None

    # --- commands ---

    def run(self, *arguments, check=True, **options):
        """culvertd ARGUMENTS --dir DIR"""
        return self.host.run(self.program, *arguments, "--dir", self.dir, check=check, **options)

    def init(self, *arguments, name=NAME, listen=f"[::]:{PORT}", ipv4="10.99.0.0/24",
             ipv6="fd99::/64", address="198.51.100.1"):
        self.run("init", "--name", name, "--listen", listen, "--address", address,
                 "--ipv4", ipv4 or "none", "--ipv6", ipv6 or "none", *arguments)
        return self

    def configure(self, section, **values):
        """Sets keys of culvertd.toml, or removes them (None); section "" is the top level."""
        path = self.dir / "culvertd.toml"
        table = tomllib.loads(path.read_text())
        part = table.setdefault(section, {}) if section else table
        for key, value in values.items():
            part.pop(key, None)
            if value is not None:
                part[key] = value
        path.write_text(toml_text(table))
        return self

    def add_user(self, name, *arguments):
        """Creates the user and returns the path of its profile."""
        profile = self.host.dir / f"{name}.toml"
        self.run("user", "add", name, *arguments, "--profile", profile)
        return profile

    def revoke(self, name):
        return self.run("user", "revoke", name)

    def export(self, name):
        """A folder with NAME.crt, NAME.key and ca.crt."""
        folder = self.host.dir / f"export-{name}"
        self.run("pki", "export", name, "--out", folder)
        return folder

    def export_for(self, name):
        """Adds the user; certificate and key as files."""
        self.add_user(name)
        folder = self.export(name)
        return certs.Issued(folder / f"{name}.crt", folder / f"{name}.key")

    # --- the running server ---

    def start(self, *arguments, wait=True):
        self.process = self.host.start(self.program, "run", "--dir", self.dir, *arguments,
                                       name="culvertd")
        if wait:
            self.wait_until_serving()
        return self

    def wait_until_serving(self):
        def serving():
            assert self.process.running, (
                f"culvertd ended with {self.process.returncode}:\n{self.process.output()}")
            return self.run("status", "--json", check=False).returncode == 0
        wait_until(serving, "culvertd answering its control socket", 20)

    def stop(self):
        """Ends it with SIGTERM; the exit code must be 0."""
        code = self.process.stop(signal.SIGTERM)
        assert code == 0, f"culvertd ended with {code}:\n{self.process.output()}"

    def kill(self):
        self.process.kill()

    def kill_all(self):
        """With its guard and its helper, so that nobody puts anything back."""
        self.process.kill_all()

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def sessions(self):
        return json.loads(self.run("sessions", "--json").stdout)["sessions"]

    def session(self, user):
        """The one session of a user."""
        mine = [s for s in self.sessions() if s["user"] == user]
        assert len(mine) == 1, mine
        return mine[0]

    def wait_for_sessions(self, count, limit=15):
        return wait_until(lambda: (s := self.sessions(), len(s) == count)[1] and (s or True),
                          f"{count} sessions", limit)

    def log(self):
        return self.process.output()

    # --- clients of it ---

    def new_client(self, host, user, *arguments):
        client = Client(host, user)
        client.import_profile(self.add_user(user, *arguments))
        return client


class Client:
    def __init__(self, host, name):
        self.host = host
        self.name = name
        self.program = host.world.bin / "culvert"

    def run(self, *arguments, check=True, **options):
        return self.host.run(self.program, *arguments, check=check, **options)

    def import_profile(self, path, *arguments):
        return self.run("import", path, "--name", self.name, *arguments)

    def import_text(self, table):
        """Imports a profile given as a dictionary."""
        path = self.host.dir / f"{self.name}-profile.toml"
        path.write_text(toml_text(table))
        path.chmod(0o600)
        return self.import_profile(path)

    def use_password_command(self, command):
        """As the user does, by hand, in the stored profile."""
        [path] = self.host.dir.glob(f"etc/**/{self.name}.toml")
        path.write_text(f"password_command = '''{command}'''\n" + path.read_text())
        os.chmod(path, 0o600)

    def connect(self, *arguments, code=0, limit=60):
        """culvert connect; the exit code must be `code`. Returns what it printed."""
        done = self.run("connect", self.name, *arguments, check=False, limit=limit)
        assert done.returncode == code, (
            f"culvert connect ended with {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self, *arguments):
        """culvert run, in the foreground of a process of its own."""
        return self.host.start(self.program, "run", self.name, *arguments, name="culvert")

    def disconnect(self, code=0):
        done = self.run("disconnect", self.name, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def status(self):
        return json.loads(self.run("status", self.name, "--json").stdout)

    def is_up(self):
        done = self.run("status", self.name, "--json", check=False)
        return done.returncode == 0 and json.loads(done.stdout)["state"] == "up"

    def wait_until_up(self, limit=30):
        wait_until(self.is_up, f"the tunnel {self.name} being up", limit)

    def log(self):
        """All that the client has logged, wherever it logs."""
        logs = [p for folder in ("log", "run", "state") for p in (self.host.dir / folder).rglob("*")
                if p.is_file() and p.suffix == ".log"]
        return "".join(p.read_text(errors="replace") for p in sorted(logs))


def profile_table(profile_path):
    """A profile as a dictionary, for tests that spoil it."""
    return tomllib.loads(pathlib.Path(profile_path).read_text())


def proc_status(pid):
    """/proc/PID/status as a dictionary."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict((line.split(":", 1)[0], line.split(":", 1)[1].strip())
                for line in text.splitlines() if ":" in line)


def exists(pid):
    return os.path.exists(f"/proc/{pid}")
