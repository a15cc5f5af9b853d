"""cluster.yaml against the schema that Ray itself ships."""

import json
from importlib.util import find_spec
from pathlib import Path

import jsonschema
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


def test_cluster_yaml_is_valid_for_ray() -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    cluster = YAML(typ="safe").load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)
    assert cluster["available_node_types"]["head"]["max_workers"] == 0
    assert all(kind.get("min_workers", 0) == 0 for kind in cluster["available_node_types"].values())
