"""Which root opens the KEK: those that guard.toml names, in their order.

The second is asked only when the first is away or does not answer. A root that answers wrongly ends it: what was
changed, is denied, or is none of this store's roots is never passed over in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from guard.config import reveal
from guard.config.settings import OneRoot, RootSettings
from guard.crypto import wrap
from guard.crypto.kek import Kms, LocalRoot, Origin, Root, UnderRoot, wrong_root
from guard.crypto.roots import AwayError
from guard.crypto.sources import Ask, CredentialSource, FileSource, GivenSource, KmsSource, PassphraseSource, Source
from guard.crypto.wrap import Key
from guard.errors import GuardError, InterlockError, TamperedError, UnavailableError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Looked:
    """How one root stands, for `guard doctor`. `error`: why it does not open the KEK."""

    name: str
    what: str
    error: GuardError | None = None


class Roots:
    """The roots of one store. `away`: those that did not answer when the KEK was last opened, and why."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self.away: Mapping[str, GuardError] = {}

    @classmethod
    def of_key(cls, root_key: bytes) -> Roots:
        """Return the roots of a store with the one root key that is given. Raises ValueError when it is no key."""
        return cls((GivenSource(LocalRoot(root_key)),))

    @property
    def names(self) -> tuple[str, ...]:
        """What each root is, in words."""
        return tuple(f"{source.name}: {source.what}" for source in self._sources)

    def only(self, name: str) -> Roots:
        """Return the root in one place of guard.toml, alone."""
        return Roots([source for source in self._sources if source.name == name])

    def unlock(self, store_id: UUID, sheet: Key, stored: Sequence[UnderRoot]) -> Key:
        """Return the KEK that `sheet` names, by the first root that answers; its commitment is the caller's to compare.

        Raises DeniedError for a root that is none of this store's, TamperedError for a KEK that does not open,
        AwayError or UnavailableError when no root answers.
        """
        away: dict[str, GuardError] = {}
        for source in self._sources:
            try:
                kek = _open(source, store_id, sheet, stored)
            except (AwayError, UnavailableError) as error:
                away[source.name] = error
                continue
            for name, why in away.items():
                level = logging.INFO if isinstance(why, AwayError) else logging.WARNING
                _log.log(level, "%s does not answer (%s); the keys were opened with %s", name, why, source.name)
            self.away = away
            return kek
        raise _none_answers(away)

    def wrap_again(self, store_id: UUID, kek: Key, stored: Sequence[UnderRoot]) -> tuple[UnderRoot, ...]:
        """Return `kek`, a new version, wrapped under the very roots that wrapped the one before.

        Raises InterlockError when guard.toml names others, and what a root raises that does not answer: a new KEK that
        one of its roots does not know would lose that root.
        """
        sought = [source.find(store_id, stored) for source in self._sources]
        found = [each for each in sought if each is not None]
        if len(found) < len(sought) or not all(under in [known for _, known in found] for under in stored):
            raise InterlockError(
                f"guard.toml names other roots than the keys lie under ({_told(stored)})",
                hint="guard keys rewrap --root brings the two together first",
            )
        return _wrapped(store_id, kek, [root for root, _ in found])

    def wrap_named(
        self, store_id: UUID, kek: Key, stored: Sequence[UnderRoot] = (), *, new_passphrase: bool = False
    ) -> tuple[UnderRoot, ...]:
        """Return `kek` wrapped under every root that guard.toml names now; a key file that is not there is made.

        Raises what a root raises that does not answer.
        """
        return _wrapped(store_id, kek, [self._root(each, store_id, stored, new_passphrase) for each in self._sources])

    def missing(self, store_id: UUID, stored: Sequence[UnderRoot]) -> tuple[str, ...]:
        """Return what `wrap_named` would change, in words; nothing: guard.toml and the keys agree."""
        out = []
        for source in self._sources:
            try:
                if source.find(store_id, stored) is None:
                    out.append(f"{source.name}: the keys do not lie under this {source.what} yet")
            except AwayError as error:
                said = "is not there: a new root key is made in it" if isinstance(source, FileSource) else f"({error})"
                out.append(f"{source.name}: {source.what} {said}")
        return (*out, *self.unnamed(store_id, stored))

    def unnamed(self, store_id: UUID, stored: Sequence[UnderRoot]) -> tuple[str, ...]:
        """Return the roots that guard.toml does not name, but that open the keys, in words. One away is not told of."""
        known = []
        for source in self._sources:
            try:
                found = source.find(store_id, stored)
            except (AwayError, UnavailableError):
                return ()
            known += [] if found is None else [found[1]]
        return tuple(f"guard.toml does not name {_told([each])}" for each in stored if each not in known)

    def look(self, store_id: UUID, sheet: Key, commitment: bytes, stored: Sequence[UnderRoot]) -> Iterator[Looked]:
        """Yield how each root stands, by opening the KEK with every one of them."""
        for source in self._sources:
            try:
                wrap.check(store_id, _open(source, store_id, sheet, stored), commitment)
                yield Looked(source.name, source.what)
            except GuardError as error:
                yield Looked(source.name, source.what, error)

    def _root(self, source: Source, store_id: UUID, stored: Sequence[UnderRoot], new_passphrase: bool) -> Root:
        if new_passphrase and isinstance(source, PassphraseSource):
            return source.make()
        try:
            found = source.find(store_id, stored)
        except AwayError:
            found = None
        return found[0] if found else source.make()


def roots_of(
    settings: RootSettings, home: Path, ask: Callable[[], Ask | None], connect: Callable[[OneRoot], Kms]
) -> Roots:
    """Return the roots that guard.toml names. Nothing is opened or asked yet."""

    def source(name: str, one: OneRoot) -> Source:
        match one.kind:
            case "file":
                return FileSource(name, home / one.path)
            case "credential":
                return CredentialSource(name, one.credential)
            case "kms":
                return KmsSource(name, lambda: connect(one), f"KMS key {one.key}")
            case "passphrase":
                secret = one.passphrase
                return PassphraseSource(name, ask, None if secret is None else lambda: reveal(secret, home))

    second = () if settings.second is None else (source("root.second", settings.second),)
    return Roots((source("root", settings), *second))


def _open(source: Source, store_id: UUID, sheet: Key, stored: Sequence[UnderRoot]) -> Key:
    found = source.find(store_id, stored)
    if found is None:
        raise wrong_root(
            f"this root key does not open the KEK: {source.name} is a {source.what}, the keys lie under {_told(stored)}"
        )
    root, under = found
    return root.unwrap(store_id, under.wrapped, sheet)


def _wrapped(store_id: UUID, kek: Key, named: Sequence[Root]) -> tuple[UnderRoot, ...]:
    """Wrap, and prove each by opening it again: a root that only encrypts would be found out when it is needed."""
    out: dict[object, UnderRoot] = {}
    for root in named:
        under = root.wrap(store_id, kek)
        if root.unwrap(store_id, under.wrapped, kek) != kek:
            raise TamperedError(f"{_told([under])} gives back another key than was wrapped")
        out.setdefault(under.origin.mark or under.origin.kms_arn, under)  # a file and a credential may hold one key
    return tuple(out.values())


def _none_answers(away: Mapping[str, GuardError]) -> GuardError:
    errors = list(away.values())
    if len(errors) == 1:
        return errors[0]
    lost = [error for error in errors if isinstance(error, UnavailableError)]
    said = "; ".join(f"{name}: {error}" for name, error in away.items())
    return type((lost or errors)[0])(f"no root answers: {said}", hint=(lost or errors)[0].hint)


def _told(stored: Sequence[UnderRoot]) -> str:
    return ", ".join(_name(under.origin) for under in stored) or "none"


def _name(origin: Origin) -> str:
    if origin.kind == "kms":
        return f"KMS key {origin.kms_arn}"
    return f"{origin.kind} {origin.mark.hex()[:8]}" if origin.mark else origin.kind
