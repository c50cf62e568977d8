"""culvert on an ocserv that wants a password after the certificate: from a command, from a person
at the terminal, or not at all.

    culvert (client1) ──eth0───to1── ocserv (server), auth = certificate and plain
"""
import os

import pytest

from harness import certs
from harness.culvert import Client
from harness.peers import Ocserv
from harness.terminal import AtTerminal
from harness.wait import wait_until

PASSWORD = "Correct-Horse-<&>-9"
NEEDS_INTERACTION, REFUSED = 4, 3


@pytest.fixture
def ca(world):
    return certs.Ca(world.dir, "Office CA")


@pytest.fixture
def ocserv(world, wire, ca):
    passwords = world.dir / "passwords"
    wire.server.run("ocpasswd", "-c", passwords, "alice", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    passwords.chmod(0o644)
    issued = ca.issue("vpn.example.com", [certs.SERVER], ["DNS:vpn.example.com"])
    return Ocserv(wire.server, ca.certificate, issued, extra=f'auth = "plain[passwd={passwords}]"')


@pytest.fixture
def client(client_host, ca):
    mine = ca.issue("alice")
    client = Client(client_host, "alice")
    client.import_text({"name": "vpn.example.com", "address": "198.51.100.1",
                        "tls": {"ca": ca.certificate_pem, "certificate": mine.certificate_pem,
                                "key": mine.key_pem}})
    return client


def answer_from_file(client, password):
    """A command that prints what the file holds; returns the file."""
    answer = client.host.dir / "answer"
    answer.write_text(password + "\n")
    answer.chmod(0o644)
    client.use_password_command(f"cat {answer}")
    return answer


def connect_alone(client, code):
    """Without a terminal, whatever the tests run at."""
    done = client.host.run("setsid", "--wait", client.program, "connect", "alice", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def assert_kept_secret(client, *words):
    everything = client.log() + client.host.log_text()
    for word in words:
        assert word not in everything


def test_a_command_answers(client, ocserv):
    answer_from_file(client, PASSWORD)
    connect_alone(client, 0)
    client.host.ping(Ocserv.INSIDE4)
    assert "alice" in ocserv.users()
    assert_kept_secret(client, PASSWORD)


def test_a_wrong_command_is_refused_with_code_3(client, ocserv):
    answer_from_file(client, "wrong-password")
    before = client.host.network_state()
    said = connect_alone(client, REFUSED)
    assert "Login failed" in said and "password_command" in said, said
    assert "wrong-password" not in said
    assert client.host.network_state() == before
    assert_kept_secret(client, "wrong-password")


def test_nobody_to_ask_is_code_4(client, ocserv):
    before = client.host.network_state()
    said = connect_alone(client, NEEDS_INTERACTION)
    assert "more than the certificate" in said and "password_command" in said, said
    assert client.host.network_state() == before


def test_a_person_answers(client, ocserv):
    at = AtTerminal(client.host, client.program, "connect", "alice")
    at.wait_for("Password: ")
    at.type(PASSWORD + "\n")
    assert at.wait() == 0, at.seen
    assert PASSWORD not in at.seen and at.echoes()
    client.host.ping(Ocserv.INSIDE4)
    assert_kept_secret(client, PASSWORD)


def test_a_person_may_try_again_until_ocserv_has_enough(client, ocserv):
    """Three times. This ocserv takes no right password after a wrong one, from openconnect neither;
    that a second try can succeed is test_forms.py's."""
    at = AtTerminal(client.host, client.program, "connect", "alice")
    for _ in range(3):
        at.wait_for("Please enter your password.")
        at.wait_for("Password: ")
        at.type("wrong\n")
    assert at.wait() == REFUSED, at.seen
    assert at.echoes()


def test_a_person_may_give_up(client, ocserv):
    before = client.host.network_state()
    at = AtTerminal(client.host, client.program, "connect", "alice")
    at.wait_for("Password: ")
    at.type("\x03")  # Ctrl-C
    assert at.wait() == 1, at.seen
    assert at.echoes(), "the terminal is as it was"
    assert client.host.network_state() == before


def test_the_end_of_the_terminal_is_nobody(client, ocserv):
    at = AtTerminal(client.host, client.program, "connect", "alice")
    at.wait_for("Password: ")
    at.type("\x04")  # Ctrl-D
    assert at.wait() == NEEDS_INTERACTION, at.seen


def test_run_asks_at_its_own_terminal(client, ocserv):
    at = AtTerminal(client.host, client.program, "run", "alice")
    at.wait_for("Password: ")
    at.type(PASSWORD + "\n")
    client.wait_until_up()
    client.host.ping(Ocserv.INSIDE4)
    assert at.echoes()
    client.disconnect()
    assert at.wait() == 0


@pytest.mark.parametrize("command", [True, False])
def test_a_later_login_has_no_terminal(client, ocserv, command):
    """The cookie is refused: the command answers once more, or the tunnel ends."""
    at = None
    if command:
        answer_from_file(client, PASSWORD)
        connect_alone(client, 0)
    else:
        at = AtTerminal(client.host, client.program, "connect", "alice")
        at.wait_for("Password: ")
        at.type(PASSWORD + "\n")
        assert at.wait() == 0, at.seen
    pid = client.status()["pid"]
    ocserv.restart()
    if command:
        wait_until(lambda: client.status()["reconnects"] >= 1 and client.is_up(), "up again", 60)
        client.host.ping(Ocserv.INSIDE4)
    else:
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the tunnel", 60)
        assert "more than the certificate" in client.log() or "nobody" in client.log()


def test_a_later_login_asks_at_the_terminal_of_run(client, ocserv):
    at = AtTerminal(client.host, client.program, "run", "alice")
    at.wait_for("Password: ")
    at.type(PASSWORD + "\n")
    client.wait_until_up()
    ocserv.restart()
    at.wait_for("Password: ", 60)
    at.type(PASSWORD + "\n")
    client.wait_until_up()
    assert client.status()["reconnects"] == 1
    client.host.ping(Ocserv.INSIDE4)
    assert at.echoes()


def test_a_later_login_that_nobody_answers_is_code_4(client, ocserv):
    """The command that has answered before fails now."""
    answer = answer_from_file(client, PASSWORD)
    before = client.host.network_state()
    foreground = client.start()
    client.wait_until_up()
    answer.unlink()
    ocserv.restart()
    assert foreground.wait(60) == NEEDS_INTERACTION
    assert "password_command" in foreground.output()
    assert client.host.network_state() == before
