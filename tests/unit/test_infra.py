"""The files of infra/, checked as far as they can be without a cluster: form, and agreement with each other.

The schemas hold the fields that we use, strictly: an unknown field is more likely a typo than a need.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from jobs.spec import JobSpec
from pipeline.actor import GRACE_S, NOTICE_S

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
YAML_FILES = sorted(path for path in INFRA.rglob("*.yaml"))

TEXT = {"type": "string", "minLength": 1}
QUANTITY = {"type": ["string", "integer"], "pattern": r"^\d+(m|Mi|Gi)?$"}


def strict(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def each(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def resource(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
    return strict(
        {"apiVersion": {"const": api_version}, "kind": {"const": kind}, "metadata": strict({"name": TEXT}), **fields}
    )


PORTLESS_CONTAINER = strict(
    {
        "name": TEXT,
        "image": {"type": "string", "pattern": r":v?\d[\w.-]+$"},
        "resources": strict(
            {
                "requests": {"type": "object", "additionalProperties": QUANTITY},
                "limits": {"type": "object", "additionalProperties": QUANTITY, "required": ["memory"]},
            }
        ),
        "securityContext": strict(
            {"allowPrivilegeEscalation": {"const": False}, "capabilities": strict({"drop": {"const": ["ALL"]}})}
        ),
    },
    {
        "args": each(TEXT),
        "envFrom": each(strict({"secretRef": strict({"name": TEXT})})),
        "volumeMounts": each(strict({"name": TEXT, "mountPath": TEXT, "readOnly": {"type": "boolean"}})),
        "lifecycle": strict({"preStop": strict({"exec": strict({"command": each(TEXT)})})}),
    },
)
POD = strict(
    {
        "containers": each(PORTLESS_CONTAINER),
        "securityContext": strict(
            {"runAsNonRoot": {"const": True}, "seccompProfile": strict({"type": {"const": "RuntimeDefault"}})},
            {"runAsUser": {"type": "integer", "minimum": 1}},
        ),
    },
    {
        "volumes": each(strict({"name": TEXT, "configMap": strict({"name": TEXT})})),
        "tolerations": each(strict({"key": TEXT, "operator": one_of("Exists", "Equal"), "effect": TEXT})),
        "restartPolicy": one_of("Never", "OnFailure"),
        "serviceAccountName": TEXT,
        "terminationGracePeriodSeconds": {"type": "integer", "minimum": 1},
    },
)
POD_TEMPLATE = strict({"spec": POD})
START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}  # KubeRay takes strings only
COUNT = {"type": "integer", "minimum": 0}

RAY_JOB = resource(
    "ray.io/v1",
    "RayJob",
    spec=strict(
        {
            "entrypoint": TEXT,
            "backoffLimit": COUNT,
            "shutdownAfterJobFinishes": {"const": True},
            "ttlSecondsAfterFinished": COUNT,
            "rayClusterSpec": strict(
                {
                    "rayVersion": TEXT,
                    "enableInTreeAutoscaling": {"const": True},
                    "autoscalerOptions": strict({"idleTimeoutSeconds": COUNT}),
                    "headGroupSpec": strict({"rayStartParams": START_PARAMS, "template": POD_TEMPLATE}),
                    "workerGroupSpecs": each(
                        strict(
                            {
                                "groupName": TEXT,
                                "replicas": COUNT,
                                "minReplicas": COUNT,
                                "maxReplicas": COUNT,
                                "rayStartParams": START_PARAMS,
                                "template": POD_TEMPLATE,
                            }
                        )
                    ),
                }
            ),
        }
    ),
)
CRON_JOB = resource(
    "batch/v1",
    "CronJob",
    spec=strict(
        {
            "schedule": {"type": "string", "pattern": r"^([\d*/,-]+ ){4}[\d*/,-]+$"},
            "timeZone": TEXT,
            "concurrencyPolicy": one_of("Allow", "Forbid", "Replace"),
            "startingDeadlineSeconds": COUNT,
            "jobTemplate": strict({"spec": strict({"backoffLimit": COUNT, "template": POD_TEMPLATE})}),
        }
    ),
)
RBAC = "rbac.authorization.k8s.io"
SERVICE_ACCOUNT = resource("v1", "ServiceAccount")
ROLE = resource(
    f"{RBAC}/v1",
    "Role",
    rules=each(strict({"apiGroups": each(TEXT), "resources": each(TEXT), "verbs": each(TEXT)})),
)
ROLE_BINDING = resource(
    f"{RBAC}/v1",
    "RoleBinding",
    roleRef=strict({"apiGroup": {"const": RBAC}, "kind": {"const": "Role"}, "name": TEXT}),
    subjects=each(strict({"kind": {"const": "ServiceAccount"}, "name": TEXT})),
)
KUSTOMIZATION = strict(
    {
        "apiVersion": {"const": "kustomize.config.k8s.io/v1beta1"},
        "kind": {"const": "Kustomization"},
        "resources": each(TEXT),
        "configMapGenerator": each(strict({"name": TEXT, "files": each(TEXT)})),
        "generatorOptions": strict({"disableNameSuffixHash": {"const": True}}),
    }
)
ENVIRONMENT = {"type": "object", "additionalProperties": TEXT}
COMPOSE = strict(
    {
        "name": TEXT,
        "services": {
            "type": "object",
            "additionalProperties": strict(
                {"image": {"type": "string", "pattern": r":v?\d[\w.-]+$"}, "environment": ENVIRONMENT},
                {
                    "build": strict({"context": TEXT, "dockerfile": TEXT}),
                    "command": each(TEXT),
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": strict(
                            {"condition": one_of("service_healthy", "service_completed_successfully")}
                        ),
                    },
                    "entrypoint": each(TEXT),
                    "healthcheck": strict({"test": each(TEXT), "interval": TEXT, "retries": COUNT}),
                    "init": {"type": "boolean"},
                    "ports": each({"type": "string", "pattern": r"^127\.0\.0\.1:"}),
                    "shm_size": TEXT,
                    "volumes": each(TEXT),
                },
            ),
        },
        "volumes": {"type": "object"},
    },
    {"x-store-client": ENVIRONMENT},
)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INFRA / name).read_text(encoding="utf-8")))


def pinned(package: str) -> str:
    text = (INFRA / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    assert match, f"{package} is not in infra/constraints.txt"
    return match[1]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(INFRA)))
def test_yaml_is_safe_and_has_no_repeated_keys(path: Path) -> None:
    class Loader(yaml.SafeLoader):
        """Refuses a key given twice, which YAML forbids and PyYAML lets pass."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"repeated key in {keys}"
            return super().construct_mapping(node, deep)

    assert list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=Loader))


@pytest.mark.parametrize(
    ("name", "schemas"),
    [
        ("kuberay/rayjob.yaml", [RAY_JOB]),
        ("kuberay/schedule.yaml", [CRON_JOB, SERVICE_ACCOUNT, ROLE, ROLE_BINDING]),
        ("kuberay/kustomization.yaml", [KUSTOMIZATION]),
        ("compose.yaml", [COMPOSE]),
        ("cluster.yaml", [json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())]),
    ],
)
def test_schema(name: str, schemas: list[dict[str, Any]]) -> None:
    found = documents(name)
    assert len(found) == len(schemas)
    for document, schema in zip(found, schemas, strict=True):
        jsonschema.validate(document, schema)


def test_the_cluster_runs_our_ray() -> None:
    (ray_job,) = documents("kuberay/rayjob.yaml")
    assert ray_job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")


def test_images_carry_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for path in (*YAML_FILES, INFRA / "Dockerfile", INFRA / "README.md"):
        for tag in re.findall(r"shardmill:(\d[\w.]*)", path.read_text(encoding="utf-8")):
            assert tag == version, f"{path.relative_to(ROOT)}: {tag}"


def test_the_job_on_kubernetes_is_valid_and_fits_its_cluster() -> None:
    (job,) = documents("kuberay/job.yaml")
    spec = JobSpec.model_validate(job)
    (ray_job,) = documents("kuberay/rayjob.yaml")
    (group,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]

    assert (group["minReplicas"], group["maxReplicas"]) == (spec.workers.min, spec.workers.max)
    assert container["resources"]["requests"]["nvidia.com/gpu"] == spec.workers.gpus
    assert int(container["resources"]["requests"]["cpu"]) == spec.workers.cpus


def test_workers_have_time_to_hand_back_what_they_have_before_their_pod_goes() -> None:
    (ray_job,) = documents("kuberay/rayjob.yaml")
    (group,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > GRACE_S + 2 * NOTICE_S
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    # A process that is called like a worker gets the signal, and the command waits until it is gone.
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    )
    like_a_worker = ["ray::Worker-in-a-test", "-c", code]
    with subprocess.Popen(like_a_worker, executable=sys.executable, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        command = [part.replace("ray::Worker", like_a_worker[0]) for part in command]
        with subprocess.Popen(command) as hook:
            assert worker.wait(timeout=30) == 7
            assert hook.wait(timeout=30) == 0


def test_names_on_kubernetes_agree() -> None:
    (ray_job,) = documents("kuberay/rayjob.yaml")
    cron_job, account, role, binding = documents("kuberay/schedule.yaml")
    (kustomization,) = documents("kuberay/kustomization.yaml")
    (config_map,) = kustomization["configMapGenerator"]
    cron_pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    head_pod = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]

    for pod in (cron_pod, head_pod):
        assert pod["volumes"] == [{"name": "job", "configMap": {"name": config_map["name"]}}]
    for name in (*kustomization["resources"], *config_map["files"]):
        assert (INFRA / "kuberay" / name).is_file()
    mount = head_pod["containers"][0]["volumeMounts"][0]["mountPath"]
    assert ray_job["spec"]["entrypoint"] == f"shardmill run {mount}/job.yaml"
    assert cron_pod["containers"][0]["args"][-1].endswith("/rayjob.yaml")
    assert cron_pod["serviceAccountName"] == account["metadata"]["name"] == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_compose_mounts_what_is_there_and_its_job_is_valid() -> None:
    (compose,) = documents("compose.yaml")
    job = compose["services"]["job"]
    assert (INFRA / job["build"]["context"] / job["build"]["dockerfile"]).resolve() == INFRA / "Dockerfile"
    source, target, _ = job["volumes"][0].split(":")
    on_this_machine = [argument.replace(target, str((INFRA / source).resolve())) for argument in job["command"]]
    program, verb, spec_file, *settings = on_this_machine

    assert (program, verb) == ("shardmill", "run")
    spec = yaml.safe_load(Path(spec_file).read_text(encoding="utf-8"))
    for setting in settings[1::2]:
        key, value = setting.split("=", 1)
        section, field = key.split(".")
        assert field in spec[section]
        spec[section][field] = value
    parsed = JobSpec.model_validate(spec)
    assert Path(parsed.model.path, "config.json").is_file()
    assert (INFRA / source / "corpus" / Path(parsed.input.url[0]).name).is_file()


def test_no_secret_lies_in_a_file() -> None:
    for path in YAML_FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"(secret|password|token|access)_?(access_)?key\w*\s*:", line, re.IGNORECASE):
                assert re.search(r"\$\{\w+:-local-only[\w-]*\}", line), f"{path.name}: {line.strip()}"


def test_dockerfile() -> None:
    text = (INFRA / "Dockerfile").read_text(encoding="utf-8")
    instructions = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    stages = {match[1] for line in instructions if (match := re.search(r"^FROM .* AS (\w+)$", line))}

    assert "latest" not in text
    assert re.search(r"^ARG BASE=\S+:\d[\w.]+$", text, re.MULTILINE)
    for line in instructions:
        if line.startswith("FROM "):
            assert line.split()[1] in {"${BASE}", *stages}
        if "apt-get install" in line:
            assert "--no-install-recommends" in line
            assert "rm -rf /var/lib/apt/lists/*" in line
        if "pip " in line:
            assert "--no-cache-dir" in line
        assert not line.startswith("ADD ")
        assert "sudo" not in line
    installs = [line for line in instructions if "pip install" in line]
    assert installs
    assert all("--constraint" in line for line in installs)
    users = [line.split()[1] for line in instructions if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"0", "root"}
    assert int(users[-1]), "a number, so that Kubernetes can check runAsNonRoot"


def test_the_build_context_holds_all_that_is_copied() -> None:
    text = (INFRA / "Dockerfile").read_text(encoding="utf-8")
    ignore = (INFRA / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    copied = {source for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for source in line.split()[:-1]}
    assert copied <= let_through
    assert all((ROOT / name).exists() for name in copied)
