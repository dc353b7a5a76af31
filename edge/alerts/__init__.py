"""Alarms that a ranger trusts: rules over what collars say, one alert an event, nothing twice."""
