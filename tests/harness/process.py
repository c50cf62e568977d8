"""Programs that run while a test runs: started and stopped by process id, output kept in a file."""
import os
import pathlib
import signal
import subprocess

from harness.wait import wait_until


class Process:
    """One program in the background. Standard output and error go to `log`."""

    def __init__(self, argv, log, env=None, name=None):
        self.name = name or os.path.basename(str(argv[0]))
        self.log_path = pathlib.Path(log)
        self._log = open(self.log_path, "ab")
        self._popen = subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.pid = self._popen.pid

    @property
    def returncode(self):
        return self._popen.poll()

    @property
    def running(self):
        return self.returncode is None

    def output(self):
        return self.log_path.read_text(errors="replace")

    def send(self, number):
        if self.running:
            os.kill(self.pid, number)

    def wait(self, limit=20.0):
        """The exit code; fails the test if the program is still running after `limit` seconds."""
        wait_until(lambda: not self.running, f"the end of {self.name} (pid {self.pid})", limit)
        return self.returncode

    def stop(self, number=signal.SIGTERM, limit=20.0):
        """Asks the program to end and returns its exit code."""
        self.send(number)
        return self.wait(limit)

    def kill(self):
        self.send(signal.SIGKILL)
        return self.wait()

    def kill_all(self):
        """The program and all the processes that it has started, at the same moment."""
        os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def wait_for_output(self, text, limit=15.0):
        def seen():
            if text in self.output():
                return True
            assert self.running, f"{self.name} ended with {self.returncode}:\n{self.output()}"
            return False
        wait_until(seen, f"{self.name} printing {text!r}", limit)

    def close(self):
        """For the end of a test: nothing is left behind."""
        if self.running:
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(10)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._log.close()
