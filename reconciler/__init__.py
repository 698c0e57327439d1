"""
Brings the metadata of Windchill documents to the state that change events ask for.

Events fold into a desired state per document; a level-triggered loop compares it with what Windchill has, decides field
by field under a stated policy, and applies the difference as one guarded, field-level write. `ARCHITECTURE.md` at the
root of the repository is the map.

This package holds only the version. What runs is in `cli`, what is decided is in `core`, what is true is in `model`.
"""

__version__ = "0.2.0"
