"""Alarms that leave the station by themselves: SMS through a modem, and other services where there is internet."""
