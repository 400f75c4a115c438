"""The ports in memory: first-class twins of the adapters, kept honest by tests/contract."""
