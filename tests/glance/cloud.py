# SPDX-License-Identifier: Apache-2.0
"""A Keystone and a Glance of our own on loopback, for the tests of the image service (see README.md in this folder).

Both come from Debian's packages, on sqlite, below the cloud's folder and on free ports; they end with the process that started
them. Only Debian's own Python can import them: scripts that use this begin with #!/usr/bin/python3.
"""
import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests/vm"))
from rig import RigError, end_process, read, run, wait_until  # noqa: E402

os.environ["no_proxy"] = "127.0.0.1,localhost"  # whatever leads to the package mirror does not lead here

PYTHON = "/usr/bin/python3"
MODULES = {"glance": "python3-glance", "keystone": "python3-keystone", "glanceclient": "python3-glanceclient"}
PLUGIN = "/usr/lib/uwsgi/plugins/python3_plugin.so"

PASTE = """[composite:glance-api-keystone]
use = egg:Paste#urlmap
/: keystone_app
[pipeline:keystone_app]
pipeline = versionnegotiation authtoken context rootapp
[composite:glance-api-noauth]
use = egg:Paste#urlmap
/: noauth_app
[pipeline:noauth_app]
pipeline = versionnegotiation unauthenticated-context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
"""

KEYSTONE = """[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[identity]
password_hash_rounds = 4
[token]
expiration = {token_seconds}
[cache]
enabled = true
backend = dogpile.cache.memory
"""

GLANCE = """[DEFAULT]
bind_host = 127.0.0.1
bind_port = {port}
workers = 0
enabled_backends = fs:file
use_stderr = true
{more}
[database]
connection = sqlite:///{folder}/glance.db
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = {folder}/images
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[paste_deploy]
flavor = {flavor}
config_file = {folder}/paste.ini
[keystone_authtoken]
www_authenticate_uri = http://127.0.0.1:{keystone}/v3
auth_url = http://127.0.0.1:{keystone}/v3
auth_type = password
project_name = admin
project_domain_id = default
user_domain_id = default
username = admin
password = {password}
token_cache_time = -1
service_token_roles_required = false
[image_import_opts]
image_import_plugins = []
{import_more}
"""


def why_not():
    """Why there can be no cloud on this machine, or None."""
    missing = []
    for module, package in MODULES.items():
        tried = subprocess.run([PYTHON, "-c", f"import {module}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if tried.returncode:
            missing.append(package)
    missing += [name for name in ("uwsgi", "keystone-manage", "keystone-wsgi-public") if not shutil.which(name)]
    if not os.path.exists(PLUGIN):
        missing.append("uwsgi-plugin-python3")
    return f"not installed: {', '.join(missing)} (scripts/deps test)" if missing else None


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cloud:
    """`with Cloud(folder) as cloud:` or up() and down(). What there is then: users admin and snap (project of the same name), the
    password of both, region RegionOne and, after region(), others."""

    password = "correct horse"

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.keystone_port = free_port()
        self.glance_port = free_port()
        self.keystone = self.glance = None
        self.auth_url = f"http://127.0.0.1:{self.keystone_port}/v3"
        self.image_url = f"http://127.0.0.1:{self.glance_port}"
        self.token_seconds = 3600
        self.clients = {}
        self.flavor = "keystone"  # or "noauth"

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_):
        self.down()

    def path(self, *names):
        return os.path.join(self.folder, *names)

    # ---- up and down ----

    def up(self):
        why = why_not()
        if why:
            raise RigError(why)
        for name in ("fernet", "images", "staging", "tasks"):
            os.makedirs(self.path(name), mode=0o700, exist_ok=True)
        for name in ("0", "1"):
            self.write(f"fernet/{name}", base64.urlsafe_b64encode(os.urandom(32)).decode(), 0o600)
        self.write("paste.ini", PASTE)
        self._configure_keystone()
        keystone = ["keystone-manage", "--config-file", self.path("keystone.conf")]
        run(*keystone, "db_sync")
        self._let_read_while_written("keystone.db")
        url = self.auth_url
        run(*keystone, "bootstrap", "--bootstrap-password", self.password, "--bootstrap-region-id", "RegionOne",
            "--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url)
        self.start_keystone()
        self._populate()
        self.configure_glance()
        run(PYTHON, "-m", "glance.cmd.manage", "--config-file", self.path("glance.conf"), "db_sync")
        self._let_read_while_written("glance.db")
        self.start_glance()
        return self

    def down(self):
        self.stop_glance()
        self.stop_keystone()

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)

    def _let_read_while_written(self, name):
        """Else a read that was not closed yet keeps a write of the same process off: "database is locked"."""
        with contextlib.closing(sqlite3.connect(self.path(name))) as base:
            base.execute("PRAGMA journal_mode=WAL")

    def _start(self, name, *command, **environment):
        with open(self.path(name + ".log"), "a", encoding="utf-8") as log:
            return subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                    preexec_fn=_end_with_parent, env={**os.environ, "LC_ALL": "C.UTF-8", **environment})

    def _wait(self, process, name, url):
        def answers():
            if process.poll() is not None:
                raise RigError(f"{name} ended:\n{read(self.path(name + '.log'))[-3000:]}")
            with contextlib.suppress(OSError):
                with contextlib.closing(socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])), 1)):
                    return True
            return False
        wait_until(f"{name} answers", answers)

    def _configure_keystone(self):
        self.write("keystone.conf", KEYSTONE.format(folder=self.folder, token_seconds=self.token_seconds))

    def start_keystone(self, token_seconds=None):
        """(Again), with another life of tokens."""
        if token_seconds:
            self.token_seconds = token_seconds
            self._configure_keystone()
        self.keystone = self._start("keystone", "uwsgi", "--plugin", "python3", "--http-socket", f"127.0.0.1:{self.keystone_port}",
                                    "--wsgi-file", shutil.which("keystone-wsgi-public"), "--need-app", "--lazy-apps", "--buffer-size", "65535",
                                    "--pyargv", "", "--add-header", "Connection: close", OS_KEYSTONE_CONFIG_FILES=self.path("keystone.conf"))
        self._wait(self.keystone, "keystone", self.auth_url)

    def stop_keystone(self):
        if self.keystone:
            end_process(self.keystone.pid)
            self.keystone.wait()
            self.keystone = None

    def configure_glance(self, import_more="", **settings):
        """Glance's next start has these settings of [DEFAULT]."""
        more = "\n".join(f"{key} = {value}" for key, value in settings.items())
        self.write("glance.conf", GLANCE.format(folder=self.folder, port=self.glance_port, keystone=self.keystone_port, password=self.password,
                                                flavor=self.flavor, more=more, import_more=import_more))

    def start_glance(self):
        self.glance = self._start("glance", PYTHON, "-m", "glance.cmd.api", "--config-file", self.path("glance.conf"))
        self._wait(self.glance, "glance", self.image_url)

    def stop_glance(self):
        if self.glance:
            end_process(self.glance.pid)
            self.glance.wait()
            self.glance = None

    @contextlib.contextmanager
    def settings(self, import_more="", **settings):
        """Glance with these settings for as long as the block lasts."""
        self.stop_glance()
        self.configure_glance(import_more, **settings)
        self.start_glance()
        try:
            yield
        finally:
            self.stop_glance()
            self.configure_glance()
            self.start_glance()

    # ---- Keystone ----

    def call(self, method, url, body=None, token=None):
        """(status, headers, JSON or bytes) of a request."""
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("X-Auth-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, headers, data = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            status, headers, data = answer.code, answer.headers, answer.read()
        return status, headers, json.loads(data) if headers.get("Content-Type", "").startswith("application/json") and data else data

    def _ask(self, method, what, body=None):
        status, _, answer = self.call(method, f"{self.auth_url}/{what}", body, self.token("admin"))
        if status >= 300:
            raise RigError(f"{method} {what}: {status} {answer}")
        return answer

    def token(self, user="snap"):
        identity = {"methods": ["password"], "password": {"user": {"name": user, "domain": {"id": "default"}, "password": self.password}}}
        scope = {"project": {"name": user, "domain": {"id": "default"}}}
        status, headers, answer = self.call("POST", f"{self.auth_url}/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        if status != 201:
            raise RigError(f"no token: {status} {answer}")
        self.user_id = answer["token"]["user"]["id"]
        return headers["X-Subject-Token"]

    def _populate(self):
        roles = {role["name"]: role["id"] for role in self._ask("GET", "roles")["roles"]}
        project = self._ask("POST", "projects", {"project": {"name": "snap", "domain_id": "default"}})["project"]["id"]
        user = self._ask("POST", "users", {"user": {"name": "snap", "password": self.password, "domain_id": "default"}})["user"]["id"]
        self._ask("PUT", f"projects/{project}/users/{user}/roles/{roles['member']}")
        self.service = self._ask("POST", "services", {"service": {"type": "image", "name": "glance"}})["service"]["id"]
        self.region("RegionOne", self.image_url)

    def region(self, name, url, interface="public"):
        """An endpoint of the image service in that region."""
        if name not in [region["id"] for region in self._ask("GET", "regions")["regions"]]:
            self._ask("POST", "regions", {"region": {"id": name}})
        self._ask("POST", "endpoints", {"endpoint": {"service_id": self.service, "region_id": name, "interface": interface, "url": url}})

    def application_credential(self, name):
        """(id, secret) of one of the user snap."""
        token = self.token()
        body = {"application_credential": {"name": name, "secret": "s3cret of " + name}}
        status, _, answer = self.call("POST", f"{self.auth_url}/users/{self.user_id}/application_credentials", body, token)
        if status != 201:
            raise RigError(f"no application credential: {status} {answer}")
        return answer["application_credential"]["id"], body["application_credential"]["secret"]

    def environment(self, user="snap", **more):
        """The variables that lead a client here."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        return {**clean, "HOME": self.folder, "OS_AUTH_URL": self.auth_url, "OS_USERNAME": user, "OS_PASSWORD": self.password,
                "OS_PROJECT_NAME": user, "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "RegionOne",
                "OS_IDENTITY_API_VERSION": "3", **more}

    # ---- Glance, by its own client ----

    def client(self, user="snap"):
        import glanceclient  # pylint: disable=import-outside-toplevel
        if user not in self.clients or self.token_seconds < 60:
            self.clients[user] = glanceclient.Client("2", endpoint=self.image_url, token=self.token(user))
        return self.clients[user]

    def images(self):
        return {image["id"]: image for image in self.client("admin").images.list()}

    def image(self, image_id):
        return self.client().images.get(image_id)

    def data(self, image_id):
        return b"".join(self.client().images.data(image_id))


def certificate(folder):
    """(certificate, key) files of one for 127.0.0.1 that signs itself."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
        "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert)
    return cert, key


def tls_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    return context


@contextlib.contextmanager
def cloud_for_test():
    """A cloud in TEST_TMP, which ends with the block or with this process; the script is skipped where there can be none."""
    why = why_not()
    if why:
        print(why)
        sys.exit(77)
    with contextlib.ExitStack() as stack:
        folder = os.environ.get("TEST_TMP") or stack.enter_context(tempfile.TemporaryDirectory(prefix="qsnap-glance.", dir="/var/tmp"))
        place = os.path.join(folder, "cloud")
        os.makedirs(place, mode=0o700)
        yield stack.enter_context(Cloud(place))
