"""Prefect: when and where the stages run. Importing this package does not import Prefect."""
