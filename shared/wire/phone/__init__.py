"""What a phone's WatermelonDB reads and writes: tables of schema 1, numbers in ms, degrees, metres, km/h, percent."""
