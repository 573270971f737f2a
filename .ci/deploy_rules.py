"""Checks in deploy/ what no schema sees: that every file that a setting names is there, that pods and units get the
secrets of their own kind only, that the selectors of two shards do not overlap, that deploy/README.md creates all that
is referred to, and that the program knows the settings.

Usage: deploy_rules.py DIRECTORY [PROGRAM]. The directory has what kustomize made of the overlays; without any, the base
manifests are checked alone.
"""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

SOURCES = Path("deploy/kubernetes")
UNITS = Path("deploy/systemd")
README = Path("deploy/README.md")
# The Secrets that each kind of pod may see. A shard's own Secret of Postgres comes on top for the first two.
SECRETS = {
    "worker": {"gofavorites-nats-worker", "gofavorites-keys"},
    "init": {"gofavorites-nats-init", "gofavorites-keys"},
    "maintain": {"gofavorites-nats-maintain", "gofavorites-keys"},
    "backup": {"gofavorites-nats-backup", "gofavorites-keys"},
    "metrics": {"gofavorites-nats-operator"},
}
WITH_POSTGRES = {"worker", "init"}
# A client of the workers, which has no settings of a worker.
WITHOUT_SETTINGS = {"metrics"}
# The credentials that each unit may load.
KEYS = {"identity", "encryption"}
CREDENTIALS = {
    "gofavorites-worker@.service": {"front.password", "auth.password", "worker.password", "postgres.url"} | KEYS,
    "gofavorites-init.service": {"init.password", "postgres.url"} | KEYS,
    "gofavorites-maintain.service": {"maintain.password"} | KEYS,
    "gofavorites-backup.service": {"backup.password"} | KEYS,
    "gofavorites-metrics.service": {"operator.password"},
}
# A stop takes worker.grace_ms twice, and 5 seconds in between.
FLUSH_S = 5

problems = []


def report(where, what):
    problems.append(f"{where}: {what}")


def documents(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def pod_spec(document):
    """Returns the spec of the pods that a document makes, and their labels, if it makes any."""
    spec = document.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    template = spec.get("template")
    if template is None:
        return None, {}
    return template["spec"], template["metadata"].get("labels", {})


def created_by_readme():
    """Returns the keys of each Secret and ConfigMap that the document creates. Where kubectl is, it runs the commands,
    which then change nothing and need no cluster."""
    created = {}
    for command in re.sub(r"\\\n\s*", " ", README.read_text()).splitlines():
        if not re.match(r"\s*kubectl .*create (secret generic|configmap) ", command):
            continue
        words = shlex.split(command)
        pairs = [word.removeprefix("--from-file=").split("=") for word in words if word.startswith("--from-file=")]
        name = words[words.index("configmap" if "configmap" in words else "generic") + 1]
        created[name] = {key for key, _ in pairs}
        if shutil.which("kubectl"):
            run_kubectl(name, words, pairs, created[name])
    if not created:
        report(README, "no command creates a Secret")
    return created


def run_kubectl(name, words, pairs, keys):
    with tempfile.TemporaryDirectory() as directory:
        for _, path in pairs:
            file = Path(directory, path)
            file.parent.mkdir(exist_ok=True)
            file.write_text("dummy\n")
        words = [*words, "--dry-run=client", "--output=yaml"]
        environment = os.environ | {"KUBECONFIG": os.devnull}
        done = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        report(README, f"{name} cannot be created: {done.stderr.strip()}")
    elif yaml.safe_load(done.stdout)["data"].keys() != keys:
        report(README, f"{name} is created with other keys")


def check_pod(where, document, created, generated):
    spec, labels = pod_spec(document)
    kind = labels.get("app.kubernetes.io/component")
    # Others in the pod read what the program writes.
    container, *others = spec["containers"]
    volume_of = {volume["name"]: volume for volume in spec["volumes"]}
    volumes = dict(volume_of)

    # What stands at each path of the container.
    files = {}
    seen = set()
    for mount in container["volumeMounts"]:
        volume = volumes.pop(mount["name"], None)
        if volume is None:
            report(where, f"the volume {mount['name']} is not there, or mounted twice")
            continue
        if "subPath" in mount:
            report(where, f"{mount['name']}: a subPath is never updated")
        if volume.keys() & {"persistentVolumeClaim", "emptyDir"}:
            continue
        if "secret" in volume:
            name = volume["secret"]["secretName"]
            seen.add(name)
            if volume["secret"].get("defaultMode") != 0o440:
                report(where, f"{name}: defaultMode 0440 lets root and the pod's group read it, and nobody else")
            keys = created.get(name)
        else:
            name = volume["configMap"]["name"]
            keys = generated.get(name) or created.get(name)
        if keys is None:
            report(where, f"nothing creates {name}")
        for key in keys or ():
            files[f"{mount['mountPath']}/{key}"] = name
    for name in volumes:
        report(where, f"the volume {name} is not mounted")

    check_secrets(where, kind, labels, seen)
    for each in (container, *others):
        check_security(where, spec, each)
    for other in others:
        if other.get("env") or any("emptyDir" not in volume_of[mount["name"]] for mount in other["volumeMounts"]):
            report(where, f"{other['name']} sees more than what the program writes")
    settings = check_environment(where, container, files, generated)
    if kind not in WITHOUT_SETTINGS and "/etc/gofavorites/settings.toml" not in container["args"]:
        report(where, "its arguments do not name the settings")
    return kind, spec, container, files, settings


def check_secrets(where, kind, labels, seen):
    postgres = {name for name in seen if name.startswith("gofavorites-postgres")}
    if seen - postgres != SECRETS.get(kind):
        report(where, f"{kind} sees {sorted(seen - postgres)}")
    shard = labels.get("gofavorites/shard")
    suffix = f"-{shard}" if shard else ""
    if postgres != ({f"gofavorites-postgres{suffix}"} if kind in WITH_POSTGRES else set()):
        report(where, f"{kind} of the shard {shard} sees {sorted(postgres)}")


def check_security(where, spec, container):
    pod = spec["securityContext"]
    own = container["securityContext"]
    wanted = [
        (spec.get("automountServiceAccountToken") is False, "automountServiceAccountToken"),
        (pod.get("runAsNonRoot") is True, "runAsNonRoot"),
        (pod.get("runAsUser") == pod.get("runAsGroup") == pod.get("fsGroup") == 10001, "user and groups"),
        (pod.get("seccompProfile") == {"type": "RuntimeDefault"}, "seccompProfile"),
        (own.get("readOnlyRootFilesystem") is True, "readOnlyRootFilesystem"),
        (own.get("allowPrivilegeEscalation") is False, "allowPrivilegeEscalation"),
        (own.get("capabilities") == {"drop": ["ALL"]}, "capabilities"),
        ("memory" in container.get("resources", {}).get("limits", {}), "a limit of memory"),
    ]
    for holds, what in wanted:
        if not holds:
            report(where, f"{what} is missing or too weak")


def check_environment(where, container, files, generated):
    """Checks the files that the environment names, and returns the environment as the program would see it."""
    environment = {}
    for variable in container["env"]:
        name = variable["name"]
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            reference = source["configMapKeyRef"]
            if reference["key"] not in generated.get(reference["name"], ()):
                report(where, f"{name}: {reference['name']} has no {reference['key']}")
            environment[name] = "tls://nats.example.com:4222"
        elif "fieldRef" in source:
            environment[name] = "from-the-pod"
        elif "secretKeyRef" in source:
            report(where, f"{name}: a secret belongs into a file and not into the environment")
        else:
            unknown = [part for part in re.findall(r"\$\((\w+)\)", variable["value"]) if part not in environment]
            if unknown:
                report(where, f"{name}: {unknown} is not defined before")
            environment[name] = re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], ""), variable["value"])

        value = environment[name]
        if (name.endswith("_FILE") or name == "GOFAVORITES_TLS_CA") and value not in files:
            report(where, f"{name}: {value} is not mounted")
    return environment


def check_worker(where, document, spec, container, environment, settings):
    grace_s = settings.get("worker", {}).get("grace_ms", 10_000) / 1000
    if spec["terminationGracePeriodSeconds"] <= 2 * grace_s + FLUSH_S:
        report(where, "terminationGracePeriodSeconds does not cover a stop")
    if document["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        report(where, "an update takes workers away before others are ready")
    if "livenessProbe" in container:
        report(where, "a livenessProbe restarts workers that a restart does not help")
    for probe in ("startupProbe", "readinessProbe"):
        if probe not in container:
            report(where, f"it has no {probe}")
            continue
        command = container[probe]["exec"]["command"]
        # Nothing expands a variable in a probe's command.
        if any("$" in word for word in command) or "--own" not in command:
            report(where, f"{probe} does not ask for this pod's worker")
        if container[probe]["timeoutSeconds"] <= int(command[command.index("--timeout") + 1].removesuffix("s")):
            report(where, f"{probe} ends before the command does")
    for name in ("GOFAVORITES__WORKER__ID", "GOFAVORITES_URL", "GOFAVORITES_USER", "GOFAVORITES_PASSWORD_FILE"):
        if name not in environment:
            report(where, f"the probes need {name}")


def check_client_names(where, container):
    """Checks the options and variables of the probes against the sources of the command line."""
    sources = "".join(file.read_text() for file in Path("src/cli").glob("*.rs"))
    for variable in container["env"]:
        name = variable["name"]
        if not name.startswith("GOFAVORITES__") and f'env = "{name}"' not in sources:
            report(where, f"the command line does not know {name}")
    if not re.search(r"^    own: bool,$", Path("src/cli/health.rs").read_text(), re.MULTILINE):
        report(where, "`gofavorites health` has no --own")


def check_selectors(rendered):
    """Checks that no selector of one overlay matches the pods of another one."""
    pods = []
    selectors = []
    for file, document in rendered:
        _, labels = pod_spec(document)
        if labels:
            pods.append((file, document["metadata"]["name"], labels))
        selector = document.get("spec", {}).get("selector", {}).get("matchLabels")
        if selector and document["kind"] in ("Deployment", "PodDisruptionBudget"):
            selectors.append((file, document["metadata"]["name"], selector, labels))
            if labels and not selector.items() <= labels.items():
                report(file, f"{document['metadata']['name']} does not select its own pods")
    for (file, name, selector, _), (other, pod, labels) in itertools.product(selectors, pods):
        if file != other and selector.items() <= labels.items():
            report(file, f"{name} selects {pod} of {other}")
    names = [(document["kind"], document["metadata"]["name"]) for _, document in rendered]
    for twice in {name for name in names if names.count(name) > 1}:
        report("the overlays", f"{twice} is there twice")


def run_program(program, where, toml, environment):
    """Lets the program check the settings. Each file of a secret is a dummy."""
    with tempfile.TemporaryDirectory() as directory:
        dummy = Path(directory, "dummy")
        dummy.write_text("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
        file = Path(directory, "settings.toml")
        file.write_text(toml)
        given = {name: value for name, value in environment.items() if name.startswith("GOFAVORITES__")}
        given |= {name: str(dummy) for name in given if name.endswith("_FILE")}
        if "GOFAVORITES__POSTGRES__URL_FILE" in given:
            url = Path(directory, "url")
            url.write_text("postgres://user@host/database\n")
            given["GOFAVORITES__POSTGRES__URL_FILE"] = str(url)
        keys = Path(directory, "keys")
        keys.write_text('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "%s"}]}' % ("A" * 43))
        given["GOFAVORITES__AUTH__VERDICT_KEYS_FILE"] = str(keys)
        done = subprocess.run([program, "config", "--config", file], env=given, capture_output=True, text=True)
        if done.returncode != 0:
            report(where, f"the program refuses the settings: {done.stderr.strip()}")


def check_kubernetes(directory, program):
    created = created_by_readme()
    rendered = [(file.name, document) for file in sorted(directory.glob("*.yaml")) for document in documents(file)]
    bare = not rendered
    if bare:
        rendered = [(str(file), d) for file in sorted(SOURCES.glob("*/*/*.yaml")) for d in documents(file)
                    if file.name != "kustomization.yaml"]
        created["gofavorites-postgres"] = {"url"}
    toml = (SOURCES / "example/settings/settings.toml").read_text()
    own = {"gofavorites-settings": {"settings.toml", "nats-url"}}

    kinds = set()
    for file, document in rendered:
        if pod_spec(document)[0] is None:
            continue
        where = f"{file}: {document['kind']} {document['metadata']['name']}"
        generated = own if bare else {
            other["metadata"]["name"]: other["data"].keys()
            for name, other in rendered if name == file and other["kind"] == "ConfigMap"
        }
        kind, spec, container, files, environment = check_pod(where, document, created, generated)
        kinds.add(kind)
        if kind in WITHOUT_SETTINGS:
            check_client_names(where, container)
            continue
        text = toml if bare else next(
            other["data"]["settings.toml"] for name, other in rendered
            if name == file and other["kind"] == "ConfigMap" and "settings.toml" in other["data"])
        settings = tomllib.loads(text)
        for name, path in paths_of(settings):
            if path not in files:
                report(where, f"{name}: {path} is not mounted")
        if kind == "worker":
            check_worker(where, document, spec, container, environment, settings)
            check_client_names(where, container)
        if program:
            run_program(program, where, text, environment)
    if kinds != SECRETS.keys():
        report("the manifests", f"there are only {sorted(kinds)}")
    if not bare:
        check_selectors([(file, document) for file, document in rendered if file != "installation.yaml"])
    return len(rendered)


def paths_of(table, before=""):
    """Returns each setting of a table that names a file."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from paths_of(value, f"{before}{name}.")
        elif name.endswith("_file") and value:
            yield f"{before}{name}", value


def check_systemd(program):
    text = (UNITS / "settings.toml").read_text()
    settings = tomllib.loads(text)
    readme = README.read_text()
    for name, path in paths_of(settings):
        if path not in readme:
            report(UNITS / "settings.toml", f"{name}: {README} does not say where {path} comes from")

    units = {unit.name: unit.read_text() for unit in UNITS.glob("*.service")}
    if units.keys() != CREDENTIALS.keys():
        report(UNITS, f"there are {sorted(units)}")
    for name, unit in units.items():
        loaded = dict(re.findall(r"^LoadCredential=([^:]+):(.+)$", unit, re.MULTILINE))
        if loaded.keys() != CREDENTIALS.get(name):
            report(name, f"it loads {sorted(loaded)}")
        for credential, path in loaded.items():
            if path != f"/etc/gofavorites/secrets/{credential}":
                report(name, f"{credential} comes from {path}")
            if not re.search(rf"\b{re.escape(credential)}\b", readme):
                report(name, f"{README} does not name {credential}")
        environment = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
        used = {value.removeprefix("%d/") for variable, value in environment.items() if variable.endswith("_FILE")}
        if used != loaded.keys():
            report(name, f"it uses {sorted(used)} and loads {sorted(loaded)}")
        if "@" in name:
            grace_s = settings.get("worker", {}).get("grace_ms", 10_000) / 1000
            if int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)[1]) <= 2 * grace_s + FLUSH_S:
                report(name, "TimeoutStopSec does not cover a stop")
        environment = {variable: value.replace("%l-%i", "host-1") for variable, value in environment.items()}
        if program and "--config" in unit:
            run_program(program, name, text, environment)
    return len(units)


def main():
    directory, program = Path(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "")
    manifests = check_kubernetes(directory, program)
    units = check_systemd(program)
    if problems:
        sys.exit("\n".join(dict.fromkeys(problems)))
    print(f"{manifests} manifests and {units} services keep the rules")


main()
