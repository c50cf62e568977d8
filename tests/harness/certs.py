"""Certificates by the openssl program: those that our own commands refuse to make (expired, wrong
purpose, foreign CA), and a second opinion on those that they do make."""
import datetime
import pathlib
import subprocess
import tempfile

SERVER, CLIENT = "serverAuth", "clientAuth"


def openssl(*arguments, check=True, stdin=None):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                          input=stdin)
    assert not check or done.returncode == 0, f"openssl {arguments}: {done.stderr}"
    return done


def _date(days):
    """Days from now, as openssl wants it."""
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")


def new_key(path, algorithm):
    """`algorithm`: "P-256", "P-384" or "RSA-2048" and the like."""
    kind, _, size = algorithm.partition("-")
    if kind == "RSA":
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{size}", "-out", path)
    else:
        openssl("ecparam", "-name", {"256": "prime256v1", "384": "secp384r1"}[size], "-genkey",
                "-noout", "-out", path)


class Issued:
    """A certificate and its key, as files."""

    def __init__(self, certificate, key):
        self.certificate, self.key = pathlib.Path(certificate), pathlib.Path(key)

    @property
    def certificate_pem(self):
        return self.certificate.read_text()

    @property
    def key_pem(self):
        return self.key.read_text()


class Ca:
    """A CA; Ca.of() takes one that exists, for example the server's own."""

    def __init__(self, folder, name="Foreign CA"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ca-", dir=folder))
        self.certificate, self.key = self.folder / "ca.crt", self.folder / "ca.key"
        self._count = 0
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.certificate, "-days", 30, "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._prepare()

    @classmethod
    def of(cls, folder, certificate, key):
        self = cls.__new__(cls)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ca-", dir=folder))
        self.certificate, self.key = pathlib.Path(certificate), pathlib.Path(key)
        self._count = 0
        self._prepare()
        return self

    def _prepare(self):
        (self.folder / "index.txt").touch()
        (self.folder / "index.txt.attr").write_text("unique_subject = no\n")
        (self.folder / "crlnumber").write_text("01\n")
        self.config = self.folder / "openssl.cnf"
        self.config.write_text(f"""
[ca]
default_ca = d
[d]
database = {self.folder}/index.txt
new_certs_dir = {self.folder}
rand_serial = yes
crlnumber = {self.folder}/crlnumber
default_md = sha256
default_crl_days = 30
policy = p
copy_extensions = none
[p]
commonName = optional
organizationName = optional
organizationalUnitName = optional
userId = optional
""")

    @property
    def certificate_pem(self):
        return self.certificate.read_text()

    def intermediate(self, name, algorithm="P-256"):
        """A CA below this one; `above` is its certificate and those between it and the root."""
        self._count += 1
        below = Ca.__new__(Ca)
        below.folder = pathlib.Path(tempfile.mkdtemp(prefix="ca-", dir=self.folder))
        below.certificate, below.key = below.folder / "ca.crt", below.folder / "ca.key"
        below._count = 0
        below._prepare()
        new_key(below.key, algorithm)
        request, extensions = below.folder / "ca.csr", below.folder / "ca.ext"
        openssl("req", "-new", "-key", below.key, "-subj", f"/CN={name}", "-out", request)
        extensions.write_text("basicConstraints=critical,CA:TRUE\n"
                              "keyUsage=critical,keyCertSign,cRLSign\n")
        openssl("ca", "-batch", "-notext", "-config", self.config, "-cert", self.certificate,
                "-keyfile", self.key, "-in", request, "-out", below.certificate, "-days", 30,
                "-extfile", extensions)
        below.above = below.certificate_pem + getattr(self, "above", "")
        return below

    def issue(self, name, purposes=(CLIENT,), sans=(), start=-1, end=30, key=None, unit=None,
              key_usage="digitalSignature", algorithm="P-256", subject=None):
        """`start` and `end` are days from now; sans are like "DNS:x" or "IP:y"; `subject`: in place
        of /CN=name."""
        self._count += 1
        stem = self.folder / f"{self._count}"
        files = Issued(f"{stem}.crt", key or f"{stem}.key")
        if key is None:
            new_key(files.key, algorithm)
        subject = subject or f"/CN={name}" + (f"/OU={unit}" if unit else "")
        openssl("req", "-new", "-key", files.key, "-subj", subject, "-out", f"{stem}.csr")
        extensions = ["basicConstraints=critical,CA:FALSE", f"keyUsage=critical,{key_usage}"]
        if purposes:
            extensions.append("extendedKeyUsage=" + ",".join(purposes))
        if sans:
            extensions.append("subjectAltName=" + ",".join(sans))
        pathlib.Path(f"{stem}.ext").write_text("\n".join(extensions) + "\n")
        openssl("ca", "-batch", "-notext", "-config", self.config, "-cert", self.certificate,
                "-keyfile", self.key, "-in", f"{stem}.csr", "-out", files.certificate,
                "-startdate", _date(start), "-enddate", _date(end), "-extfile", f"{stem}.ext")
        return files

    def revoke(self, issued):
        openssl("ca", "-config", self.config, "-cert", self.certificate, "-keyfile", self.key,
                "-revoke", issued.certificate)

    def crl(self, start=None, end=None):
        """The revocation list as PEM; start and end as in issue()."""
        out = self.folder / "ca.crl"
        dates = []
        if start is not None:
            dates += ["-crl_lastupdate", _date(start)]
        if end is not None:
            dates += ["-crl_nextupdate", _date(end)]
        openssl("ca", "-gencrl", "-config", self.config, "-cert", self.certificate,
                "-keyfile", self.key, "-out", out, *dates)
        return out.read_text()


def describe(pem):
    """What the openssl program reads in a certificate."""
    return openssl("x509", "-noout", "-text", "-subject", "-issuer", "-dates", stdin=pem).stdout
