"""How `minigrad.capture` records a step and replays it.

Read `steps` (when a program may be replayed), `tape` (what is recorded), `entries` (of what it is
made), `writing` and `programs` (how it becomes Python), `pieces`, `planned` and `stretches` (how
the CPU, and how a device, does much of it at once), `surroundings` (what a step reads besides its
arguments), and `drawn` (random numbers, which a step may not look at).
"""
