"""Coded images and videos without the text that may stand beside, and name a person."""
