"""guard: security, compliance and resilience for an online shop's own database."""

__version__ = "0.1.0"
