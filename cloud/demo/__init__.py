"""`make run-cloud`: everything the cloud needs around it, on one machine, ended by one Ctrl-C.

A PostgreSQL of its own on a unix socket, and the cloud itself, each a process of its own. Nothing here runs in
production.
"""
