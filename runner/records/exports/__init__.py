"""Traces in the forms of others: OTLP, ATIF, Inspect."""

from __future__ import annotations

from runner.records.exports.files import Format, export_run

__all__ = ["Format", "export_run"]
