"""Exams: read from a source, made anonymous, split, and kept as an immutable set with a manifest.

The way in is `keyslice.exams.ingestion.ingest`; `keyslice.exams.fingerprint.source_state` says
cheaply whether there is anything to do. Nothing is imported here, so that either costs only what
it needs.
"""
