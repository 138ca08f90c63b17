"""Whole-body motion for rooms: skills, sequences of skills, and the texts that tell them."""

from egotwin_sim.room.synthesis.skills import Segment
from egotwin_sim.room.synthesis.synthesiser import Synthesis, Synthesiser, synthesise

__all__ = ["Segment", "Synthesis", "Synthesiser", "synthesise"]
