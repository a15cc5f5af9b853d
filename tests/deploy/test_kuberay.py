"""deploy/kuberay.yaml has the fields of KubeRay's ray.io/v1, and asks for nothing without work; no cluster is here."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER = {
    "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec", "headServiceAnnotations", "rayVersion", "suspend",
    "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER = {"env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "upscalingMode"}
HEAD = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKERS = {
    "groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas", "scaleStrategy", "template",
}  # fmt: skip


@pytest.fixture(scope="module")
def job() -> Any:
    return YAML(typ="safe").load((ROOT / "deploy" / "kuberay.yaml").read_text(encoding="utf-8"))


def test_fields_are_those_of_a_ray_job(job: Any) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"].keys() <= JOB
    assert cluster.keys() <= CLUSTER
    assert cluster["autoscalerOptions"].keys() <= AUTOSCALER
    assert cluster["headGroupSpec"].keys() <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKERS
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "KubeRay takes text only"
        pod = group["template"]["spec"]
        mounted = {mount["name"] for box in pod["containers"] for mount in box["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_it_costs_nothing_when_it_is_done(job: Any) -> None:
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert [group["minReplicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]] == [0]


def test_its_ray_is_the_pinned_one_and_its_spec_is_in_the_image(job: Any) -> None:
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["sweeper", "run"]
    assert (ROOT / words[2].removeprefix("/sweeper/")).is_file()
