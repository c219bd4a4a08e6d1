"""The masked supernet and the plain subnet cut out of it; the only folder that names Flax."""
