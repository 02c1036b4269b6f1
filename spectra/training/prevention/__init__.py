"""Rules that an update keeps while it is trained, so that less of what the base knew is lost: one file per rule.

Each is a training method of a sweep, and each can be attached to anybody's Trainer.
"""
