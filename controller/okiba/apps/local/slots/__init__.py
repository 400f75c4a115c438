"""A slot as processes of one machine: where it comes from, what is recorded of it, how it ends.

Everything here is about one slot or about counting them; what is made when is `okiba.apps.local.fleet`'s to decide.
"""
