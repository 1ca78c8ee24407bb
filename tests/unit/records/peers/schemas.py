"""Prints the JSON Schema of a format by the program that owns it; runs in an environment with it.

    python schemas.py inspect > inspect.schema.json
    python schemas.py atif > atif.schema.json

Objects are closed: Inspect passes over a field that it does not know, so that a wrong name would
never be found.
"""

import json
import sys


def schema(name):
    if name == "inspect":
        from inspect_ai.log import EvalLog as Model
    else:
        from harbor.models.trajectories import Trajectory as Model
    return closed(Model.model_json_schema())


def closed(value):
    if isinstance(value, list):
        return [closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {
        name: closed(part)
        for name, part in value.items()
        if not (name in ("title", "description", "default") and not isinstance(part, dict))
    }
    if isinstance(kept.get("properties"), dict) and kept.get("type") == "object":
        kept.setdefault("additionalProperties", False)
    return kept


if __name__ == "__main__":
    print(json.dumps(schema(sys.argv[1]), indent=1, sort_keys=True))
