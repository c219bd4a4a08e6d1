"""The meta-test: rows on fixed episodes, paired differences, curves and fronts."""
