"""Reads exports with the programs that they are for, and prints what those make of them."""

import json
import sys
from pathlib import Path


def inspect_log(path):
    from inspect_ai.log import read_eval_log, read_eval_log_sample

    log = read_eval_log(path)
    header = read_eval_log(path, header_only=True)
    first = log.samples[0]
    again = read_eval_log_sample(path, id=first.id, epoch=first.epoch)
    return {
        "version": log.version,
        "status": log.status,
        "header_task": header.eval.task,
        "model": log.eval.model,
        "same_sample": again.model_dump() == first.model_dump(),
        "usage": {name: each.model_dump() for name, each in log.stats.model_usage.items()},
        "mean": log.results.scores[0].metrics["mean"].value,
        "samples": [
            {
                "id": sample.id,
                "epoch": sample.epoch,
                "messages": [[m.role, m.text] for m in sample.messages],
                "events": [event.event for event in sample.events],
                "completion": sample.output.completion,
                "score": sample.scores["agenttrace"].value if sample.scores else None,
                "error": sample.error.message if sample.error else None,
                "limit": sample.limit.type if sample.limit else None,
            }
            for sample in log.samples
        ],
    }


def atif(path):
    from harbor.models.trajectories import Trajectory
    from harbor.utils.trajectory_validator import TrajectoryValidator

    read = {}
    for each in sorted(Path(path).iterdir()):
        validator = TrajectoryValidator()
        right = validator.validate(each)
        trajectory = Trajectory.model_validate_json(each.read_text())
        steps = [[step.source, step.llm_call_count] for step in trajectory.steps]
        read[each.name] = {"valid": right, "errors": validator.errors, "steps": steps}
    return read


print(json.dumps({"inspect": inspect_log, "atif": atif}[sys.argv[1]](sys.argv[2])))
