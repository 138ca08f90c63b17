"""Evaluation: how near a dream is to the room, in pictures, objects, head turns and motions.

One module per question. Pictures are uint8 RGB arrays (..., H, W, 3) throughout; nothing here imports an environment.
"""
