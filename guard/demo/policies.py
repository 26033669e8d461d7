"""The sample shop's own policies: how long it keeps what. Everything else is as `guard init` writes it."""

from pathlib import Path

RETENTION = Path(__file__).with_name("retention.toml").read_text("utf-8")
"""Its `policies/retention.toml`: orders are anonymized after ten years, support notes deleted after three."""


def write_policies(folder: Path) -> tuple[Path, ...]:
    """Write the sample shop's policies over the default ones in `folder`, and return their paths."""
    path = folder / "retention.toml"
    path.write_text(RETENTION, "utf-8")
    return (path,)
