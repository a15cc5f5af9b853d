"""cluster.yaml against the schema that Ray itself ships, and its commands on this machine."""

import json
import os
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


def test_setup_commands_run_on_a_plain_machine(cluster: Any, tmp_path: Path) -> None:
    """What needs a superuser, Ubuntu's packages or minutes is played: its words are checked, not done."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    (home / "sweeper").symlink_to(ROOT)
    for name in ("sudo", "make"):
        (tools / name).write_text(PLAYED)
        (tools / name).chmod(0o755)
    played = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}", "PLAYED": str(home / "log")}
    for command in cluster["setup_commands"]:
        subprocess.run(["bash", "-c", command], env={**os.environ, **played}, check=True, cwd=home)
    done = (home / "log").read_text().splitlines()
    assert done[-1] == "make setup"
    assert any(line.startswith("sudo mount -t nfs4") for line in done)


def test_every_command_is_shell(cluster: Any) -> None:
    commands = [command for name, some in cluster.items() if name.endswith("_commands") for command in some]
    assert len(commands) >= 9
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert all(".venv/bin/activate" in command for command in commands if "ray start" in command), "a job's `python`"
