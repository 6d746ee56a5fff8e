"""SIP: a worker of its own that keeps dialogues with carriers, and the client that drives it."""
