"""Dockerfile, compose file, Kubernetes manifests and alerts against the code: names, ports, paths, users, times."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from roadseg_service.serve import UNFETCHED_SHARE
from roadseg_service.settings import ENV_PREFIX, ServiceSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
TEXTS = ("Dockerfile", "deploy/compose.yaml", "deploy/kubernetes.yaml", "docs/container.md", "docs/kubernetes.md")
USER = 10001
LAST_WAIT_S = 2  # for threads in native code, after drain and grace


def instructions():
    """(Instruction, the rest) of each line of the Dockerfile, those that go on joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def stages():
    found = {}
    for name, rest in instructions():
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = (base, [])
        elif found:
            found[list(found)[-1]][1].append((name, rest))
    return found


def chain(stage):
    """Instructions of a stage and of those that it begins with."""
    base, own = stages()[stage]
    return (chain(base) if base in stages() else []) + own


def environment(stage):
    found = {}
    for name, rest in chain(stage):
        if name == "ENV":
            found.update(pair.split("=", 1) for pair in shlex.split(rest))
    return found


def value(stage, name):
    return [rest for instruction, rest in chain(stage) if instruction == name][-1]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def manifests():
    return {m["kind"]: m for m in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def pod(manifests):
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


@pytest.mark.parametrize("path", TEXTS)
def test_every_setting_that_is_named_exists(path):
    named = set(re.findall(rf"{ENV_PREFIX}([A-Z][A-Z_]*[A-Z])", (ROOT / path).read_text()))
    assert named <= {name.upper() for name in ServiceSettings.model_fields}


@pytest.mark.parametrize("stage", ["service", "runtime", "torch"])
def test_what_the_image_sets_is_refused_without_keys_and_works_with_them(stage):
    given = environment(stage)
    values = {k.removeprefix(ENV_PREFIX).lower(): v for k, v in given.items() if k.startswith(ENV_PREFIX)}
    with pytest.raises(ValueError, match="api_keys_file"):
        ServiceSettings(**values)
    settings = ServiceSettings(**values, api_keys_file="/keys")
    assert settings.port == int(value(stage, "EXPOSE")) == 8000
    assert settings.host == "0.0.0.0"


@pytest.mark.parametrize("stage", ["service", "runtime", "torch"])
def test_an_image_runs_as_a_numbered_user_and_gets_its_signals(stage):
    assert value(stage, "USER") == f"{USER}:{USER}"
    assert value(stage, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(value(stage, "ENTRYPOINT")) == ["roadseg", "serve"], "no shell that keeps the signal"
    assert environment(stage)["PYTHONDONTWRITEBYTECODE"] == "1"
    after = chain(stage)[[name for name, _ in chain(stage)].index("USER") :]
    assert not [rest for name, rest in after if name in ("RUN", "ADD")], "nothing but copies without rights"


def test_the_served_image_holds_no_torch_and_the_last_stage_is_the_default():
    assert list(stages())[-1] == "service"
    (extras,) = (rest for name, rest in stages()["installed"][1] if name == "ARG")
    assert extras == "EXTRAS=openvino,serve"
    copied = [rest for name, rest in chain("service") if name == "COPY"]
    assert copied == ["--from=installed /opt/roadseg /opt/roadseg", "--from=exported /model /model"]
    assert environment("service")["ROADSEG_SERVICE_MODEL"] == "/model"


def test_everything_is_installed_in_the_versions_that_were_tested_together():
    for stage in ("installed", "installed-torch", "exported"):
        assert environment(stage)["PIP_CONSTRAINT"] == "/source/constraints.txt"
        assert any(name == "COPY" and "constraints.txt" in rest for name, rest in stages()[stage][1])


def test_what_the_build_copies_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert f"!{source}" in ignored and (ROOT / source).exists()


def test_images_have_versions():
    texts = [(ROOT / "Dockerfile").read_text(), *(path.read_text() for path in DEPLOY.iterdir())]
    images = [image for text in texts for image in re.findall(r"(?:image:|BASE=)\s*(\S+)", text)]
    assert len(images) >= 4
    for image in images:
        assert re.search(r":v?[0-9]", image) and "latest" not in image, image


def health_program(command):
    assert command[:4] == ["python", "-I", "-S", "-c"]
    ast.parse(command[4])
    return command[4]


def test_health_is_asked_of_the_service_itself(compose):
    in_image = json.loads(value("service", "HEALTHCHECK").partition("CMD ")[2])
    told = compose["roadseg"]["healthcheck"]["test"]
    assert told[0] == "CMD" and health_program(told[1:]) == health_program(in_image)


def test_the_health_program_passes_for_200_alone(compose):
    """It is run as it stands, against a server that answers as it is told."""
    import http.server
    import os
    import subprocess
    import sys
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_GET(self):
            self.send_response(self.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, *compose["roadseg"]["healthcheck"]["test"][2:]]

    def passes(port):
        # A proxy in the environment must not be asked.
        variables = {**os.environ, "ROADSEG_SERVICE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run(command, env=variables, capture_output=True).returncode == 0

    assert passes(server.server_port)
    Handler.status = 503
    assert not passes(server.server_port)
    server.shutdown()
    server.server_close()
    assert not passes(server.server_port)


def test_compose_waits_longer_than_the_service_takes_to_stop(compose):
    service = compose["roadseg"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > stopping_s(service["environment"]) + LAST_WAIT_S


def test_kubernetes_waits_longer_than_the_service_takes_to_stop(pod, container):
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert pod["terminationGracePeriodSeconds"] > before + stopping_s(given) + LAST_WAIT_S


def stopping_s(environment):
    """What is written down must be the defaults, which a user who deletes the lines gets."""
    fields = ServiceSettings.model_fields
    drain = float(environment["ROADSEG_SERVICE_DRAIN_S"])
    grace = float(environment["ROADSEG_SERVICE_GRACEFUL_SHUTDOWN_S"])
    assert (drain, grace) == (fields["drain_s"].default, fields["graceful_shutdown_s"].default)
    return drain + grace


def test_compose_gives_the_service_nothing_it_does_not_need(compose):
    service = compose["roadseg"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    for each in compose.values():
        assert each["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in each["ports"]), "published to this machine alone"


def test_keys_are_asked_for_wherever_the_service_is_deployed(compose, container):
    text = "".join(path.read_text() for path in DEPLOY.iterdir())
    assert "ALLOW_ANONYMOUS" not in text
    service = compose["roadseg"]
    told = Path(service["environment"]["ROADSEG_SERVICE_API_KEYS_FILE"])
    (volume,) = service["volumes"]
    assert volume == f"./keys:{told.parent}:ro", (
        "the folder: of a file that is renamed over a mounted one nothing is seen"
    )
    command = (ROOT / "docs" / "container.md").read_text()
    assert f'-v "$PWD/keys:{told.parent}:ro" -e ROADSEG_SERVICE_API_KEYS_FILE={told}' in command
    keys = next(entry["value"] for entry in container["env"] if entry["name"] == "ROADSEG_SERVICE_API_KEYS_FILE")
    (mount,) = container["volumeMounts"]
    assert Path(keys).parent == Path(mount["mountPath"]) and "subPath" not in mount


def test_memory_covers_what_the_service_may_hold(compose, container):
    held = ServiceSettings.model_fields["max_held_bytes"].default
    held += held // UNFETCHED_SHARE
    runtime = 512 * 1024**2
    assert int(compose["roadseg"]["mem_limit"].removesuffix("g")) * 1024**3 > held + runtime
    assert int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024**3 > held + runtime


def test_the_pod_has_no_rights(pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    rights = container["securityContext"]
    assert rights == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_ask_the_right_paths_at_the_right_port(container, manifests):
    (port,) = container["ports"]
    assert port["containerPort"] == int(value("service", "EXPOSE"))
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    (entry,) = manifests["Service"]["spec"]["ports"]
    assert entry["targetPort"] == port["name"]


def test_labels_lead_from_one_manifest_to_the_next(manifests):
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "roadseg"


def test_prometheus_scrapes_the_service_where_it_is(compose):
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"roadseg:{value('service', 'EXPOSE')}"]}]
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in compose["prometheus"]["volumes"]}
    folder = Path(mounted["./prometheus.yml"]).parent
    assert [str(folder / name) for name in config["rule_files"]] == [mounted["./alerts.yml"]]


@pytest.mark.parametrize("path", ["deploy/alerts.yml", "docs/kubernetes.md", "docs/container.md"])
def test_every_metric_that_is_named_exists(path, exposed):
    named = set(re.findall(r"\broadseg_(?!service\b)[a-z_]+\b", (ROOT / path).read_text()))
    assert named <= exposed["names"], named - exposed["names"]


def test_alerts_name_labels_that_exist(exposed):
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    found = [pair for rule in rules for pair in re.findall(r'(reason|route|phase|outcome)=~?"([^"]+)"', rule["expr"])]
    used = {(label, value) for label, values in found for value in values.split("|")}
    routes = {("route", "/segment"), ("route", "/segment/batch")}
    assert used <= exposed["labels"] | routes | {("outcome", "failed")}
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


@pytest.mark.parametrize("reason", ["deadline-exceeded", "out-of-memory", "prediction-failed"])
def test_failures_of_single_requests_and_of_files_in_batches_both_alert(reason):
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    for metric in ("roadseg_rejections_total", "roadseg_batch_file_rejections_total"):
        told = rf'{metric}{{reason=~?"[^"]*\b{reason}\b'
        assert any(re.search(told, rule["expr"]) for rule in rules), metric


def test_there_is_one_set_of_alerts():
    for path in (*(ROOT / "docs").glob("*.md"), *DEPLOY.iterdir()):
        assert path.name == "alerts.yml" or "- alert:" not in path.read_text(), path


@pytest.fixture(scope="module")
def exposed():
    """Names and labels of the metrics of a service that was never asked anything."""
    from prometheus_client.parser import text_string_to_metric_families
    from starlette.testclient import TestClient

    from roadseg_service import create_app

    def never():
        raise RuntimeError("no model is needed here")

    with TestClient(create_app(ServiceSettings(), never), base_url="http://127.0.0.1") as client:
        text = client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    declared = {f"{f.name}{'_total' if f.type == 'counter' else ''}" for f in families}
    names = declared | {sample.name for sample in samples}
    return {"names": names, "labels": {pair for sample in samples for pair in sample.labels.items()}}
