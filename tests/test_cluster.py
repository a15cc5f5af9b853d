"""cluster.yaml against Ray's own schema, with the defaults that Ray adds; its commands on this machine."""

import json
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PLAYED = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$PLAYED"
"""


@pytest.fixture(scope="module")
def cluster() -> Any:
    return YAML(typ="safe").load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def merged(cluster: Any) -> Any:
    """What `ray up` makes of it: with Ray's defaults for AWS, the set-up of all nodes before that of each kind."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(cluster)


def test_it_is_valid_for_ray(cluster: Any) -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)


def test_only_the_head_is_there_without_work(cluster: Any) -> None:
    kinds = cluster["available_node_types"]
    assert kinds["head"]["max_workers"] == 0
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert all(kind.get("min_workers", 0) == 0 for kind in kinds.values())
    assert {"spot"} == {
        kind["node_config"]["InstanceMarketOptions"]["MarketType"]
        for kind in kinds.values()
        if "InstanceMarketOptions" in kind["node_config"]
    }
    assert all(kind["max_workers"] <= cluster["max_workers"] for kind in kinds.values())


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_setup_commands_run_on_a_plain_machine(merged: Any, kind: str, tmp_path: Path) -> None:
    """What needs a superuser, Ubuntu's packages or minutes is played: its words are checked, not done."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    (home / "sweeper").symlink_to(ROOT)
    for name in ("sudo", "make"):
        (tools / name).write_text(PLAYED)
        (tools / name).chmod(0o755)
    played = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}", "PLAYED": str(home / "log")}
    for command in merged[f"{kind}_setup_commands"]:
        subprocess.run(["bash", "-c", command], env={**os.environ, **played}, check=True, cwd=home)
    done = (home / "log").read_text().splitlines()
    assert done[-1] == "make setup"
    assert any(line.startswith("sudo mount -t nfs4") for line in done)


def test_nothing_is_installed_beside_the_environment(merged: Any) -> None:
    """A system's `pip` refuses on Ubuntu 24.04, and what Ray's autoscaler needs for AWS is on the pinned list."""
    commands = [command for name, some in merged.items() if name.endswith("_commands") for command in some]
    assert not [command for command in commands if re.search(r"\bpip3?\b", command)]
    pinned = {line.partition("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert {"boto3", "botocore", "ray"} <= pinned


def test_every_command_is_shell(merged: Any) -> None:
    commands = [command for name, some in merged.items() if name.endswith("_commands") for command in some]
    assert len(commands) >= 9
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert all(".venv/bin/activate" in command for command in commands if "ray start" in command), "a job's `python`"
