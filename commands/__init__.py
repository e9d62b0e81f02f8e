"""What the commands of `usher.py` do: put the parts together and talk to people at a terminal."""
