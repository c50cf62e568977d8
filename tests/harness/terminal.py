"""A program at a terminal of its own, and somebody who types."""
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios

from harness.net import inside
from harness.wait import wait_until


class AtTerminal:
    """Runs a program of a host with a controlling terminal: /dev/tty is what we see and type at."""

    def __init__(self, host, *argv):
        self.seen = ""
        self._master, slave = pty.openpty()
        self._popen = subprocess.Popen(
            inside(host.netns, *argv), env=host.env, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0))
        os.close(slave)
        host.world.servers.append(self)

    def _look(self):
        while select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # the last program at the terminal is gone
                return
            if not data:
                return
            self.seen += data.decode(errors="replace")

    def wait_for(self, text, limit=20):
        def there():
            self._look()
            return text in self.seen
        wait_until(there, lambda: f"{text!r} at the terminal: {self.seen}", limit)
        self.seen = self.seen.partition(text)[2]

    def echoes(self):
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def type(self, text):
        # Nobody types a password before the terminal has gone silent.
        wait_until(lambda: not self.echoes(), "the terminal not showing what is typed")
        os.write(self._master, text.encode())

    def wait(self, limit=30):
        """The exit code."""
        def over():
            self._look()
            return self._popen.poll() is not None
        wait_until(over, lambda: f"the end of the program: {self.seen}", limit)
        return self._popen.returncode

    def close(self):
        if self._popen.poll() is None:
            os.kill(self._popen.pid, signal.SIGTERM)
            self._popen.wait(20)
        os.close(self._master)
