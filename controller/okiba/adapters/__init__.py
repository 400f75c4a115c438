"""Vendors behind `ports`: Redis, the object store, slots, packages. Vendors' errors end here."""
