"""All models of the house over the fixes of one animal, in their order."""
