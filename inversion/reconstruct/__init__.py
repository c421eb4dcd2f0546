"""Images of a user through trained runs: reconstructions, scores, a contact sheet. May import ``runs`` and below."""
