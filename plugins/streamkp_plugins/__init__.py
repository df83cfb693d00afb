"""Applications on top of streamkp, written with its public interface alone."""
