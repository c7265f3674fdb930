"""The stages of dvc.yaml: each a function from typed settings and paths to files."""
