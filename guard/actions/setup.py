"""Set guard up for a shop: folder, root key, key hierarchy, recovery kit, first administrator, entry 0, first anchor.

The one thing that cannot go through `perform`: before it there is nobody who could be allowed. It happens once a folder
and is entry 0 of the ledger. What fails half-way leaves nothing behind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guard.app import App, declare_tables
from guard.crypto import recovery, roots
from guard.crypto.keyring import Keyring, Origin
from guard.errors import ConfigError
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

[root]
kind = {root}
path = "keys/root.key"

[backup]
# Folders of files to back up beside the database and guard's state, e.g. ["/srv/shop/uploads"].
files = []

[[backup.store]]
name = "local"
kind = "local"
# A folder on the same machine is lost with it: add a second store of kind "s3" or a folder on another machine.
path = {backups}

[[audit.anchor]]
name = "folder"
kind = "folder"
# Weak on the same host: whoever can rewrite the ledger can rewrite this. Put it on another machine.
path = "anchors"

[report]
folder = "reports"
"""

PACKAGE = Path(__file__).parent.parent
FOLDERS = ("keys", "var")
COPIED = ("policies", "runbooks")
KIT = "recovery-kit"


@dataclass(frozen=True, slots=True)
class Answers:
    """What `guard init` has to know."""

    shop_name: str
    shop_url: str
    admin_name: str
    os_user: str
    root: str = "file"
    passphrase: str | None = None
    backup_folder: str = "backups"
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What `guard init` made, for the person to read and to keep."""

    app: App
    config: Path
    store_id: str
    vkey: str
    recovery_codes: tuple[str, ...]
    shares: tuple[Path, ...] = field(default=())


Enrol = Callable[["Enrolment"], tuple[str, str]]
"""Shows the administrator the TOTP secret and returns two consecutive codes."""


def set_up(home: Path, answers: Answers, clock: Clock, enrol: Enrol) -> Made:
    """Make `home` a guard folder. Raises ConfigError when it already is one, DeniedError for wrong codes."""
    config = home / "guard.toml"
    if config.exists():
        raise ConfigError(f"{config} exists: guard is set up here already", hint="guard status shows how it stands")
    before = set(home.iterdir()) if home.exists() else None
    try:
        return _set_up(home, answers, clock, enrol)
    except BaseException:
        _undo(home, before)
        raise


def _undo(home: Path, before: set[Path] | None) -> None:
    """Remove what a failed set-up made, and nothing that was there before."""
    if before is None:
        shutil.rmtree(home, ignore_errors=True)
        return
    for path in set(home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _set_up(home: Path, answers: Answers, clock: Clock, enrol: Enrol) -> Made:
    config = _scaffold(home, answers)
    app = App.open(config, clock)
    try:
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
        (home / KIT).mkdir(mode=0o700)
        shares = recovery.write_shares(kit, home / KIT)
    except BaseException:
        app.close()
        raise
    return Made(app, config, str(app.state.store_id), app.ledger.vkey, codes, shares)


def _scaffold(home: Path, answers: Answers) -> Path:
    """Make the folder with its settings, policies and runbooks."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            (home / name).mkdir(mode=0o700)
        for name in COPIED:
            shutil.copytree(PACKAGE / name, home / name)
        config = home / "guard.toml"
        config.write_text(_settings_text(answers))
        (home / ".gitignore").write_text("keys/\nvar/\nrecovery-kit/\nreports/\n")
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists already", hint="run guard init in a new, empty folder") from error
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from error
    return config


def _settings_text(answers: Answers) -> str:
    texts = {name: json.dumps(text, ensure_ascii=False) for name, text in _named(answers).items()}
    return SETTINGS.format(**texts)


def _named(answers: Answers) -> dict[str, str]:
    return {
        "name": answers.shop_name,
        "url": answers.shop_url,
        "root": answers.root,
        "backups": answers.backup_folder,
    }


def _make_keys(app: App, answers: Answers) -> Kit:
    """Make state and the key hierarchy under a new root key; return the recovery kit."""
    kit = recovery.new_kit()
    declare_tables()
    state = State.create(app.url(app.settings.state.url), app.clock)
    try:
        if answers.demo:
            state.write(lambda tx: state.meta.set(tx, "demo", "yes"))
        params = roots.Argon2Params()
        if answers.root == "passphrase":
            root, origin = roots.from_passphrase(answers.passphrase or "", params), Origin("passphrase", params)
            app.use_root(root)
        else:
            root, origin = roots.new_file(app.home / app.settings.root.path), Origin()
        Keyring.create(state, root, kit.public, origin)
    finally:
        state.close()
    return kit
