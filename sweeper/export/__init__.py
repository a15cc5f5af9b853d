"""Trained states for other programs: adapters for plain peft, merged weights for plain open_clip, held-out outputs."""
