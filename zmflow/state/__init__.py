"""Keyed state: key hashing and key groups. State backends find their room here."""
