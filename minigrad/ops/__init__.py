"""The operations, one family a file; each op stands there with its rules.

Start with `elementwise`: it shows the form that all others follow.
"""
