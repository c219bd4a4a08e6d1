"""The commands: flags in, one function call, exit status out."""
