"""The accounts of an MLflow server of our own."""

import warnings
from pathlib import Path


def set_password(database: Path, user: str, password: str) -> None:
    """Have the server's administrator be this one, with this password, from its next start on.

    MLflow itself keeps the password of its first start.

    Args:
        database: of the server's users, which is there.
        user: new or known.
        password: at least 12 characters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that MLflow is made of
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(f"sqlite:///{database}")
    if not store.has_user(user):
        store.create_user(user, password, is_admin=True)
    elif not store.authenticate_user(user, password):
        store.update_user(user, password=password, is_admin=True)
    store.engine.dispose()
