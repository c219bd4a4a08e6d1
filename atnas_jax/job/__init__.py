"""What every command stands on: settings, the parts that they build, compiled programs, files, faults, progress."""
