"""What this host's isolation really does: tried out in throwaway containers, and judged."""

from __future__ import annotations

from runner.doctor.examination import Check, DoctorReport, EngineFacts, examine

__all__ = ["Check", "DoctorReport", "EngineFacts", "examine"]
