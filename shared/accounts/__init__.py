"""Who may do what: accounts that work with no internet. Values and decisions; no socket, no file, no clock.

::

    shared.api.auth, users, access      HTTP: bodies, cookies, guards
      service.Accounts                  one for both homes; checks.py counts attempts, hashes off the loop
        users, sessions, logins, keys, rotation, audit, rosters, facts   jobs: generators that ask for SQL
          Tables                        a home: edge.store.accounts over SQLite, cloud.store.accounts over PostgreSQL
      roles                             the one table of routes and roles
      tokens, passwords, factors, fields, sealing, limits, moments       pure

A **job** is a generator: it yields ``(sql, values)`` and is sent the rows. The words of SQL are those that SQLite and
PostgreSQL share, with ``?`` for a value. A home runs a job in one transaction, so both homes decide alike.
"""
