"""Set guard up for a shop: folder, root key, key hierarchy, recovery kit, first administrator, entry 0, first anchor.

The one thing that cannot go through `perform`: before it there is nobody who could be allowed. It happens once a folder
and is entry 0 of the ledger. What fails half-way leaves nothing behind, and takes nothing away that it did not make.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guard.app import App, declare_tables
from guard.crypto import recovery
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, GuardError
from guard.events import GUARD, Activity, Ending, Event, Role
from guard.state import State

if TYPE_CHECKING:
    from guard.access import Enrolment
    from guard.clock import Clock
    from guard.crypto.recovery import Kit

SETTINGS = """\
# guard's settings. `guard config schema` describes every key, `guard config check` finds mistakes.
name = {name}

[shop]
# A URL with a password does not belong here: url = {{file = "keys/shop.url"}} or {{env = "SHOP_URL"}}.
url = {url}

[state]
url = "sqlite:///var/state.db"

{root}
[backup]
# Folders of files to back up beside the database and guard's state, e.g. ["/srv/shop/uploads"].
files = []

[[backup.store]]
name = "local"
kind = "local"
# A folder on the same machine is lost with it: add a second store of kind "s3" or a folder on another machine.
path = {backups}

# To shred one person's data (bind = "subject" in the catalog), add two [[vault]]: runbooks/shredding.md.

[[audit.anchor]]
name = "folder"
kind = "folder"
# Weak on the same host: whoever can rewrite the ledger can rewrite this. Put it on another machine, or better add a
# witness on a second host, a bucket with Object Lock or a timestamp authority: runbooks/anchors.md.
path = "anchors"

# While `guard daemon` runs it listens for the shop's programs at var/agent/guard.sock. Where they run as another OS
# user (os_user in policies/access.toml), name a path that user can reach, in a folder of guard's own:
# [agent]
# socket = "/run/guard/guard.sock"
# The same socket runs commands for people who are other OS users: runbooks/several-people.md. Files they name lie in
# exchange = "/srv/guard-exchange"

[report]
folder = "reports"
"""

_IN_FILE = """\
[root]
kind = "file"
path = "keys/root.key"
"""

ROOTS = {
    "file": _IN_FILE,
    "passphrase": '[root]\nkind = "passphrase"\n',
    "kms": """\
[root]
kind = "kms"
key = {kms_key}
{kms_region}# A second root opens the keys when KMS does not answer: a [root.second], then `guard keys rewrap --root`.
""",
    "credential": f"""\
# Make the key file a credential, sealed to this machine, and give it to guard's units:
#   systemd-creds encrypt --name=guard-root keys/root.key /etc/credstore.encrypted/guard-root
#   LoadCredentialEncrypted=guard-root
# Then make the second root the only one, and keep the key file where no attacker of this machine finds it.
{_IN_FILE}
[root.second]
kind = "credential"
credential = "guard-root"
""",
}
"""What guard.toml says of the root, by `Answers.root`."""

PACKAGE = Path(__file__).parent.parent
KIT = "recovery-kit"
PRIVATE = ("keys", "var", KIT)
COPIED = ("policies", "runbooks")
ANCHORS = "anchors"
IGNORED = "keys/\nvar/\nrecovery-kit/\nreports/\n"


@dataclass(frozen=True, slots=True)
class Answers:
    """What `guard init` has to know."""

    shop_name: str
    shop_url: str
    admin_name: str
    os_user: str
    root: str = "file"
    """ "file", "passphrase", "kms" or "credential"."""
    passphrase: str | None = field(default=None, repr=False)
    kms_key: str = ""
    """ARN, id or alias of a symmetric KMS key."""
    kms_region: str | None = None
    backup_folder: str = "backups"
    demo: bool = False
    look: bool = False
    """Whether the shop has to answer before anything is asked of a person."""


@dataclass(frozen=True, slots=True)
class Made:
    """What `guard init` made, for the person to read and to keep."""

    app: App
    config: Path
    store_id: str
    vkey: str
    recovery_codes: tuple[str, ...] = field(repr=False)
    shares: tuple[Path, ...] = field(default=())


Enrol = Callable[["Enrolment"], tuple[str, str]]
"""Shows the administrator the TOTP secret and returns two consecutive codes."""


def set_up(home: Path, answers: Answers, clock: Clock, enrol: Enrol) -> Made:
    """Make `home` a guard folder. Raises ConfigError when it already is one, DeniedError for wrong codes."""
    config = home / "guard.toml"
    if config.exists():
        raise ConfigError(f"{config} exists: guard is set up here already", hint="guard status shows how it stands")
    scaffold = _Scaffold(home)
    try:
        scaffold.build(answers)
        return _set_up(home, answers, clock, enrol)
    except BaseException:
        scaffold.undo()
        raise


def _set_up(home: Path, answers: Answers, clock: Clock, enrol: Enrol) -> Made:
    typed = answers.passphrase
    app = App.open(home / "guard.toml", clock, None if typed is None else lambda _: typed)
    try:
        if answers.look:
            _look_at_shop(app)
        kit = _make_keys(app, answers)
        _ = app.ledger
        enrolment = app.access.begin_enrolment(answers.admin_name, answers.os_user, Role.OWNER, issuer="guard")
        first, second = enrol(enrolment)
        born = Event(
            "init", Ending.DONE, GUARD, app.new_run(), Activity.ENTITY_CREATE, objects=(f"kit {kit.id}", enrolment.id)
        )
        codes = app.access.finish(enrolment, (first, second), born)
        for anchor in app.ledger.anchors:
            anchor.create()
        app.ledger.anchor()
        shares = recovery.write_shares(kit, home / KIT)
    except BaseException:
        app.close()
        raise
    return Made(app, home / "guard.toml", str(app.state.store_id), app.ledger.vkey, codes, shares)


class _Scaffold:
    """The folder with its settings, policies and runbooks. Each part is made new, so that its maker may remove it.

    Others may be at work in the folder meanwhile: the shop itself, a person, a second `guard init`.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._around: list[Path] = []
        """The folder and those above it that were not there."""
        self._inside: list[Path] = []

    def build(self, answers: Answers) -> None:
        """Make everything that needs no key. Raises ConfigError when a part is there already or cannot be written."""
        try:
            for folder in reversed((self._home, *self._home.parents)):
                if not folder.exists():
                    folder.mkdir(mode=0o755)
                    self._around.append(folder)
            for name in PRIVATE:
                self._folder(name, 0o700)
            for name in COPIED:
                self._copy(name)
            self._folder(ANCHORS, 0o755)
            self._file("guard.toml", _settings_text(answers))
            self._file(".gitignore", IGNORED)
        except FileExistsError as error:
            raise ConfigError(
                f"{error.filename} exists already", hint="run guard init in a new, empty folder"
            ) from error
        except OSError as error:
            raise ConfigError(f"cannot write {error.filename or self._home}: {error.strerror}") from error

    def undo(self) -> None:
        """Remove what was made here; of the folders around it, those in which nothing else lies by now."""
        for path in self._inside:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in reversed(self._around):
            with suppress(OSError):
                path.rmdir()

    def _folder(self, name: str, mode: int) -> Path:
        path = self._home / name
        path.mkdir(mode=mode)
        self._inside.append(path)
        return path

    def _file(self, name: str, text: str) -> None:
        path = self._home / name
        with path.open("x", encoding="utf-8") as file:
            self._inside.append(path)
            file.write(text)
        path.chmod(0o644)

    def _copy(self, name: str) -> None:
        """Copy a folder of the package; whatever modes it has there, its owner and nobody else may write the copy."""
        folder, source = self._folder(name, 0o755), PACKAGE / name
        for each in sorted(source.rglob("*")):
            path = folder / each.relative_to(source)
            if each.is_dir():
                path.mkdir(mode=0o755)
            else:
                path.write_bytes(each.read_bytes())
                path.chmod(0o644)


def _settings_text(answers: Answers) -> str:
    region = f"region = {_toml(answers.kms_region)}\n" if answers.kms_region else ""
    root = ROOTS[answers.root]
    if answers.root == "kms":
        root = root.format(kms_key=_toml(answers.kms_key), kms_region=region)
    texts = {"name": answers.shop_name, "url": answers.shop_url, "backups": answers.backup_folder}
    return SETTINGS.format(root=root, **{name: _toml(text) for name, text in texts.items()})


def _toml(text: str) -> str:
    """Return a TOML string: JSON's, but for the one control character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _look_at_shop(app: App) -> None:
    try:
        app.shop.tables()
    except GuardError as error:
        error.hint = "give the right URL of the shop's database, or --later to set guard up before it answers"
        raise


def _make_keys(app: App, answers: Answers) -> Kit:
    """Make state and the key hierarchy under a new root key; return the recovery kit."""
    kit = recovery.new_kit()
    declare_tables()
    state = State.create(app.url(app.settings.state.url), app.clock)
    try:
        if answers.demo:
            state.write(lambda tx: state.meta.set(tx, "demo", "yes"))
        roots = app.roots.only("root") if answers.root == "credential" else app.roots  # it is made from the file later
        Keyring.create(state, roots, kit.public)
    finally:
        state.close()
    return kit
