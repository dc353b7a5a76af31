"""The behaviour model: hidden states of movement, from step lengths and turning angles."""
