"""Reconstructing a user's own pictures with trained runs: images, scores, a contact sheet.

May import ``runs`` and the packages below it.
"""
