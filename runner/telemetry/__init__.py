"""What operators see: structured logs, metrics.

`runner.telemetry.metrics` is imported by who serves them: its library is slow to import.
"""

from runner.telemetry.logs import bound, configure

__all__ = ["bound", "configure"]
