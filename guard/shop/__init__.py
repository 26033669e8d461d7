"""The shop's own database: reading it, and changing it without ever losing a row.

guard is a guest here. It keeps one table, `guard_progress`, and writes into it in the same transaction as the rows it
changes, so that after a crash the shop itself says how far a run had come. This room knows tables, keys and rows; it
does not know what a value means, which columns are personal, or how a value is sealed.
"""

from guard.shop._sizes import Size
from guard.shop.catalog import Check, ForeignKey, Index, ShopColumn, Table, Trigger, View
from guard.shop.connect import Shop

__all__ = ["Check", "ForeignKey", "Index", "Shop", "ShopColumn", "Size", "Table", "Trigger", "View"]
