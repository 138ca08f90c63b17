"""Gymnasium environments: the dream (the model) and the room (MuJoCo), with the same spaces."""
