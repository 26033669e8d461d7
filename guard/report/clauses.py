"""The clauses that guard's evidence bears on: their numbers, and what they ask in our own words.

The texts are ours, shorter than the originals and no substitute for them. PCI DSS is 4.0.1, its numbers compared with
CISO Assistant's library of it; ISO is ISO/IEC 27001:2022, Annex A.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a law or standard."""

    framework: str
    number: str
    asks: str

    @property
    def name(self) -> str:
        """How it is cited."""
        return f"{self.framework} {self.number}"


def _gdpr(number: str, asks: str) -> Clause:
    return Clause("GDPR", number, asks)


def _pci(number: str, asks: str) -> Clause:
    return Clause("PCI DSS", number, asks)


def _iso(number: str, asks: str) -> Clause:
    return Clause("ISO 27001", number, asks)


ENCRYPTION = (
    _gdpr("32(1)(a)", "encrypt or pseudonymize personal data where the risk calls for it"),
    _gdpr("5(1)(f)", "protect personal data against unlawful use, loss and damage"),
    _pci("3.5.1", "make stored card numbers unreadable; bears on columns of category card number only"),
    _iso("A.8.24", "use cryptography by rules that are written down"),
)
VERIFICATION = (
    _gdpr("32(1)(d)", "test again and again whether the measures work"),
    _iso("A.8.24", "use cryptography by rules that are written down"),
)
RETENTION = (
    _gdpr("5(1)(e)", "keep people identifiable no longer than the purpose needs"),
    _gdpr("17(1)", "erase personal data when no ground is left to keep it"),
    _pci("3.2.1", "keep little account data, and delete it when it is no longer needed"),
    _iso("A.8.10", "delete information that is no longer required"),
)
BACKUP = (
    _gdpr("32(1)(b)", "keep systems available and resilient"),
    _pci("12.10.1", "have an incident plan that covers backups and carrying on"),
    _iso("A.8.13", "make backups by an agreed rule"),
)
RESTORE = (
    _gdpr("32(1)(c)", "be able to bring data back in good time after an incident"),
    _gdpr("32(1)(d)", "test again and again whether the measures work"),
    _iso("A.8.13", "test backups regularly"),
    _iso("A.5.30", "test that the business can go on"),
)
ACCESS = (
    _gdpr("32(4)", "let people handle personal data only as they were told to"),
    _pci("8.3.1", "authenticate everybody before access"),
    _iso("A.8.2", "keep privileged rights few and controlled"),
    _iso("A.8.5", "authenticate securely"),
)
LEDGER = (
    _gdpr("5(2)", "be able to show that the principles are kept"),
    _pci("10.2.1", "log what people and programs do; here, what they do through guard"),
    _pci("10.2.2", "log who, what, when, on what and with what result"),
    _pci("10.3.2", "protect logs from being changed"),
    _pci("10.3.4", "notice when a log was changed"),
    _iso("A.8.15", "keep, protect and read logs"),
    _iso("A.5.33", "protect records from loss and falsification"),
)
BREACH = (
    _gdpr("33(1)", "tell the authority within 72 hours of becoming aware, unless a risk is unlikely"),
    _gdpr("33(5)", "keep a register of every breach"),
    _pci("12.10.1", "have an incident plan that can start at once"),
    _iso("A.5.26", "respond to incidents by written procedures"),
    _iso("A.5.28", "collect and keep evidence"),
)
