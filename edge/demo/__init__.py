"""`make run`: everything a station needs around it, on one machine, ended by one Ctrl-C.

A broker on a free loopback port, a simulated herd (or a track file) on real pseudo-terminals and on that broker, and
the station itself, each a process of its own as in the field. Nothing here runs in production.
"""
