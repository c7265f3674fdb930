"""MLflow: runs mirrored from files, model packages, registered models. Imported nowhere else."""
