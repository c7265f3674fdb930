"""The keys that a dataset's pseudonyms are made with: that of now, and those that came before it.

A patient whom the dataset knows under a former key keeps that pseudonym, and so its split; a
stranger gets one of the key of now. Each manifest tells by marks which keys its pseudonyms need: if
one of them were missing, a known patient would come in as a stranger, into any split, and who has
withdrawn would come back.
"""

from collections.abc import Collection, Iterable, Sequence

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import history
from keyslice.exams.barred import Barred
from keyslice.exams.pseudonym import (
    FORMER_VARIABLE,
    KEY_VARIABLE,
    PUBLISHED_KEY,
    SHOWN,
    former_keys,
    mark,
    pseudonym,
    secret_key,
)


class Keyring:
    """Makes pseudonyms of one dataset.

    Args:
        keys: that of now, then the former ones, the newest first.
        needed: marks of those that the dataset's pseudonyms were made with, the oldest first.
        known: pseudonyms that the dataset has, or ever had.
    """

    def __init__(
        self, keys: Sequence[bytes], needed: Sequence[str] = (), known: Collection[str] = ()
    ) -> None:
        self._keys = {mark(key): key for key in keys}
        self._needed, self._known = tuple(needed), known
        self._makers: dict[str, str] = {}

    @property
    def now(self) -> str:
        """Mark of the key of now."""
        return next(iter(self._keys))

    @property
    def key_of_now(self) -> bytes:
        """That key."""
        return self._keys[self.now]

    @property
    def here(self) -> tuple[str, ...]:
        """Marks of all, that of now first."""
        return tuple(self._keys)

    def knowing(self, known: Collection[str]) -> "Keyring":
        """The same keys, for a dataset that knows these."""
        return Keyring([*self._keys.values()], self._needed, known)

    def missing(self) -> list[str]:
        """Marks of keys that are needed and are not here."""
        return [one for one in self._needed if one not in self._keys]

    def check(self, name: str) -> None:
        """Raises UserError: a key is missing that pseudonyms of dataset `name` were made with."""
        if missing := self.missing():
            raise UserError(
                f"the key is not the one that the pseudonyms of {name} were made with "
                f"({missing[0][:SHOWN]})",
                where=KEY_VARIABLE,
                rule="a patient keeps its pseudonym, so every key that has made one is needed",
                remedy=f"set it to that key or, where another has taken its place, name that one's "
                f"file in {FORMER_VARIABLE}; keyslice key status tells which",
            )

    def all(self, issuer: str, one: str) -> list[str]:
        """What may stand for somebody, by key, in the keys' order."""
        return [pseudonym(key, issuer, one) for key in self._keys.values()]

    def name(self, issuer: str, one: str) -> str:
        """What stands for somebody: the pseudonym known already, else one of the key of now."""
        made = ((maker, pseudonym(key, issuer, one)) for maker, key in self._keys.items())
        known = next(((maker, found) for maker, found in made if found in self._known), None)
        maker, found = known or (self.now, pseudonym(self.key_of_now, issuer, one))
        self._makers[found] = maker
        return found

    def maker(self, made: str) -> bytes:
        """The key that `name` made this with; of what it did not make, that of now."""
        return self._keys[self._makers.get(made, self.now)]

    def key(self, marked: str) -> bytes | None:
        """The key of this mark, if it is here.

        Empty, as in notes from before keys could be rotated, it means the dataset's first.
        """
        return self._keys.get(marked or next(iter(self._needed), self.now))

    def makers(self, made: Iterable[str]) -> list[str]:
        """Marks of the keys that `name` made these with, the oldest first."""
        found = {self._makers[one] for one in made if one in self._makers}
        return [one for one in reversed(self._keys) if one in found]


def needed(workspace: Workspace, name: str, ban: Barred) -> list[str]:
    """Marks of the secret keys that pseudonyms of a dataset were ever made with.

    Args:
        workspace: that holds the dataset.
        name: of the dataset.
        ban: who is barred from it.

    Raises:
        UserError: a manifest is damaged.
    """
    told = dict.fromkeys([*history.keys(workspace, name), *sorted(ban.keys)])
    # The name may have been a phantom's before: nobody's pseudonym may be one of the published key.
    return [one for one in told if one != mark(PUBLISHED_KEY)]


def secret(workspace: Workspace, name: str, ban: Barred) -> Keyring:
    """The keys of a dataset whose ids are secret; see `needed`.

    Raises:
        UserError: KEYSLICE_KEY_FILE names no key, or one is missing that is needed.
    """
    keys = [secret_key(workspace), *former_keys(workspace)]
    ring = Keyring(keys, needed(workspace, name, ban))
    ring.check(name)
    return ring
