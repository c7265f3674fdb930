"""Keyslice: classifiers of medical volumes and videos that look only at the frames that matter."""

__version__ = "0.1.0"
