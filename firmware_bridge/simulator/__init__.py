"""A herd that walks, collars that duty-cycle, and base stations on real ports: a station cannot tell it from the field.

::

    movement --positions--> collar --transmissions--> plan (gateways, faults) --> delivery (virtual clock) --> links
    track file ------------------------^                                                            pty, broker

Everything up to the plan is pure and seeded: one seed gives the same bytes twice. Only ``base_station`` and
``delivery`` touch the world. All animals and positions are invented or come from the file that is replayed.
"""
