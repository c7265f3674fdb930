"""The servers and the serving process of an installation, started and ended together."""
