"""A server that asks for more than the certificate, in every odd way that the protocol leaves open.

    culvert (client1) ──eth0───to1── a scripted server
"""
import html
import re

import pytest

from harness import certs
from harness.cstp import FakeServer, value_of
from harness.culvert import Client
from harness.terminal import AtTerminal

FAILURE, USAGE, REFUSED, NEEDS_INTERACTION = 1, 2, 3, 4
USER = '<input type="text" name="username" label="Username:"/>'
PASSWORD = '<input type="password" name="password" label="Password:"/>'
SECRET = "s3cret & <more>"


@pytest.fixture
def ca(world):
    return certs.Ca(world.dir, "Good CA")


@pytest.fixture
def client(client_host, ca):
    mine = ca.issue("alice")
    client = Client(client_host, "alice")
    client.import_text({"name": "vpn.example.com", "address": "198.51.100.1",
                        "tls": {"ca": ca.certificate_pem, "certificate": mine.certificate_pem,
                                "key": mine.key_pem}})
    return client


def form(inputs, message="Please enter", action="/auth", more=""):
    return (f'{more}<auth id="main"><message>{message}</message>'
            f'<form method="post" action="{action}">{inputs}</form></auth>')


class FormServer(FakeServer):
    """Asks with one form after the other before it lets anybody in."""

    def __init__(self, wire, ca, *forms, keep=True, again=None):
        issued = ca.issue("vpn.example.com", [certs.SERVER], ["DNS:vpn.example.com"])
        self.forms, self.keep, self.again = list(forms), keep, again
        super().__init__(wire.server, issued, client_ca=ca.certificate,
                         serve=FormServer.ask_and_behave)

    def ask_and_behave(self, connection):
        while self.forms or self.again:
            head, body = connection.receive_head()
            self.requests.append((head, body))
            inside = self.forms.pop(0) if self.forms else self.again
            text = ('<?xml version="1.0" encoding="UTF-8"?>\n<config-auth client="vpn" '
                    f'type="auth-request">{inside}</config-auth>')
            connection.send_raw(
                ("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
                 f"Content-Length: {len(text)}\r\nX-Transcend-Version: 1\r\n"
                 "Set-Cookie: webvpncontext=c0ffee; Max-Age=300; Secure; HttpOnly\r\n"
                 + ("" if self.keep else "Connection: close\r\n") + f"\r\n{text}").encode())
            if not self.keep:
                return
        self.behave(connection)

    def replies(self):
        return [(h, b) for h, b in self.requests if 'type="auth-reply"' in b]


def fields(body):
    """[(element, text)] of the auth element of a reply."""
    inside = re.search(r"<auth>(.*)</auth>", body, re.DOTALL)
    return [(name, html.unescape(text))
            for name, text in re.findall(r"<(\w+)>([^<]*)</\1>", inside.group(1) if inside else "")]


def connect(client, code=0):
    done = client.host.run("setsid", "--wait", client.program, "connect", "alice", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("keep", [True, False])
def test_one_form(wire, ca, client, keep):
    client.use_password_command(f"printf '%s\\n' '{SECRET}'")
    server = FormServer(wire, ca, form(
        USER + PASSWORD + '<input type="hidden" name="state" value="a&amp;b"/>'
        '<input type="submit" name="go"/><input type="telepathy" name="t"/>',
        more='<opaque is-for="sg"><k v="1">x</k></opaque>'), keep=keep)
    connect(client)
    [(head, body)] = server.replies()
    assert head.startswith("POST /auth ")
    assert value_of(head, "Cookie") == "webvpncontext=c0ffee"
    assert fields(body) == [("username", "alice"), ("password", SECRET), ("state", "a&b")]
    assert '<opaque is-for="sg"><k v="1">x</k></opaque>' in body
    assert SECRET not in client.log() + client.host.log_text()


def test_name_and_password_one_after_the_other(wire, ca, client):
    client.use_password_command("read field; echo for-$field")
    server = FormServer(wire, ca, form(USER), form(PASSWORD),
                        form('<input type="password" name="secondary_password"/>'))
    connect(client)
    assert [fields(b) for _, b in server.replies()] == [
        [("username", "alice")], [("password", "for-password")],
        [("secondary_password", "for-secondary_password")]]


def test_a_person_is_asked_as_often_as_the_server_asks(wire, ca, client):
    server = FormServer(wire, ca, form(PASSWORD), form(PASSWORD, message="Login failed."),
                        form(PASSWORD, message="Once more."))
    at = AtTerminal(client.host, client.program, "connect", "alice")
    for number, words in enumerate(["Please enter", "Login failed", "Once more"]):
        at.wait_for(words)
        at.wait_for("Password: ")
        at.type(f"{SECRET}{number}\n")
    assert at.wait() == 0, at.seen
    assert [fields(b) for _, b in server.replies()] == [
        [("password", f"{SECRET}{number}")] for number in range(3)]
    assert SECRET not in client.log() + client.host.log_text()


def test_a_name_alone_needs_nobody(wire, ca, client):
    server = FormServer(wire, ca, form(USER))
    connect(client)
    assert [fields(b) for _, b in server.replies()] == [[("username", "alice")]]


def test_a_group_is_the_one_that_the_server_has_selected(wire, ca, client):
    server = FormServer(wire, ca, form(
        '<select name="group_list"><option value="a">A</option>'
        '<option value="b" selected="true">B</option></select>' + USER))
    connect(client)
    [(_, body)] = server.replies()
    assert "<group-select>b</group-select>" in body
    assert fields(body) == [("username", "alice")]


def test_a_confirmation(wire, ca, client):
    server = FormServer(wire, ca, '<auth id="main"><authentication-complete/></auth>')
    connect(client)
    assert len(server.replies()) == 1


def test_forms_without_end(wire, ca, client):
    server = FormServer(wire, ca, again=form(USER))
    said = connect(client, REFUSED)
    assert "one form after the other" in said, said
    assert len(server.replies()) == 5


@pytest.mark.parametrize("what, code, words", [
    (form(""), FAILURE, "without fields"),
    (form('<input type="telepathy" name="t"/>'), FAILURE, "without fields"),
    (form('<select name="group_list"/>'), FAILURE, "nothing to choose"),
    (form('<input type="text" name="a b"/>'), FAILURE, "makes no element"),
    (form(USER + PASSWORD, action="https://evil.example.org/"), FAILURE, "elsewhere"),
    (form("".join(f'<input type="text" name="f{i}"/>' for i in range(40))), FAILURE, "too many"),
    (form(PASSWORD, message="a&#27;[2Jb"), NEEDS_INTERACTION, r"\x1b"),
])
def test_odd_forms_end_with_a_reason(wire, ca, client, what, code, words):
    before = client.host.network_state()
    server = FormServer(wire, ca, again=what)
    said = connect(client, code)
    assert words in said and "\x1b" not in said, said
    assert not server.replies()
    assert client.host.network_state() == before


@pytest.mark.parametrize("command, words", [
    ("false", "failed"), ("true", "no answer"), ("echo locked >&2; exit 3", "locked"),
    ("/no/such/program", "failed")])
def test_a_command_without_an_answer_is_code_4(wire, ca, client, command, words):
    client.use_password_command(command)
    FormServer(wire, ca, form(PASSWORD))
    said = connect(client, NEEDS_INTERACTION)
    assert "password_command" in said and words in said, said


def test_the_command_has_no_privilege(wire, ca, client):
    client.use_password_command("id -un; grep CapEff /proc/self/status >&2")
    server = FormServer(wire, ca, form(PASSWORD))
    connect(client)
    [(_, body)] = server.replies()
    assert fields(body) == [("password", "nobody")]


def test_a_profile_with_a_command_is_not_imported(client):
    """Who takes a file from somebody must not run that one's programs with it."""
    [stored] = client.host.dir.glob("etc/**/alice.toml")
    path = client.host.dir / "gift.toml"
    path.write_text("password_command = 'id'\n" + stored.read_text())
    path.chmod(0o600)
    done = client.run("import", path, check=False)
    assert done.returncode == USAGE and "password_command" in done.stderr, done.stderr
