#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# time limit: 300
"""Each way to prove who asks, from variables and files; regions, interfaces, certificates; and that no secret is ever shown."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloud import cloud_for_test, tls_context  # noqa: E402
from program import qsnap, start  # noqa: E402
from proxy import Proxy  # noqa: E402
from report import Report  # noqa: E402

report = Report()
NOTHING = {name: None for name in ("OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME",
                                   "OS_PROJECT_DOMAIN_NAME", "OS_REGION_NAME")}


def lists(cloud, want=0, **variables):
    """`images` with these variables beside, or (None) without those of the environment."""
    return qsnap(cloud, "images", "--json", "--retries", "0", want=want, environment=variables)


def mine(done):
    assert [image["name"] for image in done.json()] == ["mine"], done.out


def ways(cloud):
    with report.test("password, with names of domains, with none, and by ids"):
        mine(lists(cloud))
        mine(lists(cloud, OS_USER_DOMAIN_NAME=None, OS_PROJECT_DOMAIN_NAME=None))
        mine(lists(cloud, OS_USER_DOMAIN_NAME=None, OS_USER_DOMAIN_ID="default", OS_PROJECT_DOMAIN_NAME=None, OS_PROJECT_DOMAIN_ID="default"))
        mine(lists(cloud, OS_AUTH_URL=cloud.auth_url[:-3]))
        mine(lists(cloud, OS_AUTH_URL=cloud.auth_url + "/", OS_AUTH_TYPE="v3password"))
    key, secret = cloud.application_credential("ci")
    credential = {**NOTHING, "OS_AUTH_URL": cloud.auth_url, "OS_AUTH_TYPE": "v3applicationcredential", "OS_APPLICATION_CREDENTIAL_SECRET": secret}
    with report.test("an application credential by its id, by its name, also beside a project"):
        mine(lists(cloud, **{**credential, "OS_APPLICATION_CREDENTIAL_ID": key}))
        mine(lists(cloud, **{**credential, "OS_APPLICATION_CREDENTIAL_ID": key, "OS_PROJECT_NAME": "snap"}))
        mine(lists(cloud, **{**credential, "OS_APPLICATION_CREDENTIAL_NAME": "ci", "OS_USERNAME": "snap", "OS_USER_DOMAIN_ID": "default"}))
    with report.test("a token"):
        mine(lists(cloud, OS_AUTH_TYPE="token", OS_TOKEN=cloud.token(), OS_USERNAME=None, OS_PASSWORD=None))
    with report.test("a wrong password, user, credential or token is told"):
        for wrong in ({"OS_PASSWORD": "wr0ng"}, {"OS_USERNAME": "nobody"}, {"OS_PROJECT_NAME": "nothing"}):
            assert "HTTP 401" in lists(cloud, want=1, **wrong).err
        assert "HTTP 401" in lists(cloud, want=1, **{**credential, "OS_APPLICATION_CREDENTIAL_ID": key, "OS_APPLICATION_CREDENTIAL_SECRET": "no"}).err
        lists(cloud, want=1, OS_AUTH_TYPE="token", OS_TOKEN="no")
    with report.test("a token without a project has no catalog: told"):
        assert "catalog" in lists(cloud, want=1, OS_PROJECT_NAME=None, OS_PROJECT_DOMAIN_NAME=None).err


def files(cloud):
    os.makedirs("config/openstack")
    environment = {**NOTHING, "XDG_CONFIG_HOME": os.path.abspath("config")}
    with open("config/openstack/clouds.yaml", "w", encoding="utf-8") as file:
        file.write(f"""clouds:
  good:
    region_name: RegionOne
    auth: {{auth_url: "{cloud.auth_url}", username: snap, project_name: snap, user_domain_id: default, project_domain_id: default}}
  elsewhere: {{auth_type: none, endpoint: "http://127.0.0.1:1"}}
""")
    with report.test("clouds.yaml with secure.yaml, by OS_CLOUD and by --os-cloud"):
        assert "password" in lists(cloud, want=1, **environment, OS_CLOUD="good").err
        with open("config/openstack/secure.yaml", "w", encoding="utf-8") as file:
            file.write(f"clouds: {{good: {{auth: {{password: {cloud.password}}}}}}}\n")
        mine(lists(cloud, **environment, OS_CLOUD="good"))
        mine(qsnap(cloud, "images", "--os-cloud", "good", "--json", environment={**environment, "OS_CLOUD": "elsewhere"}))
        assert "bad" in lists(cloud, want=1, **environment, OS_CLOUD="bad").err


def regions(cloud):
    with Proxy(cloud.glance_port) as other:
        cloud.region("Other", other.url)
        cloud.region("Other", "http://127.0.0.1:1", "internal")
        with report.test("the region and the interface choose the endpoint"):
            mine(lists(cloud, OS_REGION_NAME="Other"))
            assert len(other.requests) == 1
            mine(lists(cloud))
            assert len(other.requests) == 1
            lists(cloud, want=1, OS_REGION_NAME="Other", OS_INTERFACE="internal")
        with report.test("several regions and none said, or one that is not there: told"):
            assert "OS_REGION_NAME" in lists(cloud, want=1, OS_REGION_NAME=None).err
            assert "Third" in lists(cloud, want=1, OS_REGION_NAME="Third").err
        with report.test("a redirect is not followed, with a token in hand"), \
                other.rule("GET", "/images", answer=(302, b"")):
            assert "HTTP 302" in lists(cloud, want=1, OS_REGION_NAME="Other").err
        with report.test("an answer that is no image list is told"), other.rule("GET", "/images", answer=(200, b"<html>")):
            lists(cloud, want=1, OS_REGION_NAME="Other")


def tls(cloud):
    context = tls_context(".")
    with Proxy(cloud.glance_port, context) as glance, Proxy(cloud.keystone_port, context) as keystone:
        cloud.region("Secure", glance.url)
        secure = {"OS_REGION_NAME": "Secure", "OS_AUTH_URL": keystone.url + "/v3"}
        with report.test("a certificate that nobody vouches for is refused"):
            done = lists(cloud, want=1, **secure)
            assert "certificate" in done.err and "trying again" not in done.err, done.err
            assert not keystone.requests
        with report.test("... and taken with the right cacert"):
            mine(lists(cloud, **secure, OS_CACERT="cert.pem"))
        with report.test("... or when verification is not wanted"):
            mine(qsnap(cloud, "images", "--json", "--insecure", environment=secure))
        with report.test("a certificate for another host is refused"):
            lists(cloud, want=1, **{**secure, "OS_AUTH_URL": secure["OS_AUTH_URL"].replace("127.0.0.1", "localhost")}, OS_CACERT="cert.pem")
        with report.test("an upload and a download through TLS"):
            data = os.urandom(3 << 20)
            environment = {**secure, "OS_CACERT": "cert.pem"}
            qsnap(cloud, "upload", "-", "--format", "raw", "--name", "tls", data=data, environment=environment)
            assert qsnap(cloud, "download", "tls", "-", environment=environment).out == data


def secrets(cloud):
    with report.test("no secret is in a message or on a command line, with -v too"):
        key, secret = cloud.application_credential("hidden")
        for environment in ({"OS_PASSWORD": "hunter2"}, {}, {"OS_AUTH_URL": "http://127.0.0.1:1/v3"},
                            {"OS_AUTH_URL": "http://snap:hunter2@127.0.0.1:1/v3"}, {**NOTHING, "OS_AUTH_URL": cloud.auth_url,
                            "OS_AUTH_TYPE": "v3applicationcredential", "OS_APPLICATION_CREDENTIAL_ID": key, "OS_APPLICATION_CREDENTIAL_SECRET": secret}):
            done = qsnap(cloud, "-v", "images", "--retries", "0", want=None, environment=environment)
            told = done.err + done.out.decode()
            assert done.err and not [word for word in ("hunter2", cloud.password, secret, "gAAAA") if word in told], told
        process = start(cloud, "upload", "/dev/zero", "--name", "x")
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8") as file:
            assert cloud.password not in file.read()
        process.communicate()


def no_proof(cloud):
    cloud.stop_glance()
    cloud.flavor = "noauth"
    cloud.configure_glance()
    cloud.start_glance()
    open_cloud = {**NOTHING, "OS_AUTH_TYPE": "none", "OS_ENDPOINT": cloud.image_url}
    with report.test("a service that asks for no proof"):
        data = os.urandom(100000)
        done = qsnap(cloud, "upload", "-", "--format", "raw", "--name", "open", "--json", data=data, environment=open_cloud)
        assert qsnap(cloud, "download", done.json()["id"], "-", environment=open_cloud).out == data


def main():
    with cloud_for_test() as cloud:
        os.chdir(os.path.dirname(cloud.folder))
        cloud.client().images.create(name="mine")
        for part in (ways, files, regions, tls, secrets, no_proof):
            part(cloud)
    report.finish()


if __name__ == "__main__":
    main()
