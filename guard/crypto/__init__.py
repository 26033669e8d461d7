"""Sealing bytes: values, keys, roots, recovery, signatures. The formats are in docs/FORMATS.md, sections 2 and 3.

It holds no primitive of its own but XAES's key derivation, the GF(256) of the recovery shares and the note format; all
else is `cryptography`. It knows no shop, no person and no column by name. Nothing is ever tried with several keys.
"""
