"""Looking inside networks with the tools of `minigrad.study`.

`zoom` says how one output element of each network operation is computed.
"""
